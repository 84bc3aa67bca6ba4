"""What several masked methods share."""
