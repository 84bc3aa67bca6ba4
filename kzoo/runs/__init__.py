"""A run: its folder, checkpoints, provenance, how it resumes, what is reported of it."""
