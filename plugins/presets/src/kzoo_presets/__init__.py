"""Small trained encoders for kzoo: digits and clothes."""
