"""The light half of each method and encoder: its options, and the record that names its code."""
