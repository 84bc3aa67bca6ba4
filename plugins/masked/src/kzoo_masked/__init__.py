"""Masked-image methods for kzoo: masked autoencoders."""
