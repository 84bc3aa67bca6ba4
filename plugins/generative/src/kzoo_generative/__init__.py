"""Generative methods for kzoo."""
