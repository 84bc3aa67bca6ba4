"""Text for kzoo: datasets, encoders and methods."""
