"""Encoders that came with a method and fit it."""
