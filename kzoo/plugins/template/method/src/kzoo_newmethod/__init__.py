"""The self-supervised method newmethod, a plugin for kzoo."""
