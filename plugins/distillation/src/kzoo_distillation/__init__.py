"""Self-distillation methods for kzoo: BYOL, SimSiam, DINO, iBOT, DINOv2, data2vec, SERE."""
