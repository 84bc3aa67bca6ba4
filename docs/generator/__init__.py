"""The pages that say what the code, the recipes and the measured figures say. Nothing here imports TensorFlow."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
