"""Masked image models for kzoo: MAE, SimMIM, I-JEPA."""
