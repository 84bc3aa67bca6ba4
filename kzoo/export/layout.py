"""What lies in an export, beside what its formats write.

README.md       the model card, made from the contract (`kzoo.export.card`)
contract.json   what the export takes and returns, and what it was proven with (`kzoo.export.contract`)
recorded.npz    inputs, and what the backbone returned for them
figures/        pictures of the run
assets.extra/   the backbone as a Keras model; TensorFlow carries the folder along and never reads it
"""

from pathlib import Path

CARD = Path("README.md")
METADATA = Path("contract.json")
RECORDED = Path("recorded.npz")
FIGURES = Path("figures")
MODEL = Path("assets.extra") / "backbone.keras"
