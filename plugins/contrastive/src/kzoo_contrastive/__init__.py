"""Contrastive methods for kzoo."""
