"""What lies beside the SavedModel in an export. TensorFlow carries the folder along and never reads it."""

from pathlib import Path

EXTRA = Path("assets.extra")
METADATA = EXTRA / "kzoo.json"
MODEL = EXTRA / "backbone.keras"
