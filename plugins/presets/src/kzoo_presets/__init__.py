"""Small trained encoders for kzoo: digits, clothes, photographs and text."""
