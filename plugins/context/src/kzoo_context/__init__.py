"""Context-prediction methods for kzoo."""
