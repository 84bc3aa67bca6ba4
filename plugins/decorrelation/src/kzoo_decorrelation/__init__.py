"""Methods that keep embeddings from collapsing by their statistics over the batch: Barlow Twins, VICReg, LeJEPA."""
