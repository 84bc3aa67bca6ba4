"""A trained backbone, a preset for kzoo."""
