"""What each method is, and what can be set. Light: pydantic only."""
