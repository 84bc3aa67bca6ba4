"""Self-distillation methods for kzoo: DINO."""
