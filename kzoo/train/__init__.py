"""The training of a recipe, from the plan to the last checkpoint."""
