"""Devices and workers: the strategy, what workers agree on, XLA."""
