"""Draws the pictures of the methods' pages, which are kept with the checkout: the build of the site has no TensorFlow.

    python docs/pictures.py                         # what the pretexts show the model, of methods without a picture
    python docs/pictures.py simclr mae              # of these, anew
    python docs/pictures.py --run runs/photos-mae   # what a trained method predicts, from a run's answers.png

Of images three of scikit-image's photographs are shown, of other data the first examples of the method's own recipe.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from PIL import Image

from kzoo.errors import DataError, OptionsError
from kzoo.plugins import registry, targets
from kzoo.recipe.header import outlines
from kzoo.recipe.load import load
from kzoo.specs import MethodSpec
from kzoo.system import surroundings

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "assets" / "methods"
PHOTOGRAPHS = ("chelsea", "astronaut", "coffee")
SIDES = (96, 64)  # pixels of a photograph: enough to see what it shows, and the vision transformers' patches of 8 fit
WIDEST = 900


def main() -> None:
    """Draw what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("methods", nargs="*", help="all that have no picture yet, where left out")
    parser.add_argument("--run", type=Path, action="append", default=[], help="folder of a run; may be repeated")
    asked = parser.parse_args()
    for folder in asked.run:
        recipe = load(folder / "recipe.yaml")
        keep(folder / "figures" / "answers.png", f"{recipe.method.name}-predicts")
    if asked.run and not asked.methods:
        return
    surroundings.prepare()
    with tempfile.TemporaryDirectory() as scratch:
        photographs = lay_out(Path(scratch, "photographs"))
        for spec in registry.methods():
            missing = not (PICTURES / f"{spec.name}.webp").exists()
            if spec.name in asked.methods or (missing and not asked.methods):
                try:
                    draw(spec, photographs, Path(scratch, "pretext.png"))
                except Exception as error:
                    print(f"{spec.name}: {type(error).__name__}: {error}")


def lay_out(folder: Path) -> Path:
    """The photographs as a folder of images, each in a class of its own."""
    import skimage

    for name in PHOTOGRAPHS:
        [source] = Path(skimage.__file__).parent.glob(f"data/{name}.*")
        place = folder / name / source.name
        place.parent.mkdir(parents=True)
        shutil.copy(source, place)
    return folder


def draw(spec: MethodSpec, photographs: Path, scratch: Path) -> None:
    """What the pretext of a method shows the model, under the options of its first recipe for colour images."""
    from kzoo.runs.build import build_method, open_data
    from kzoo.runs.report import pretext_examples

    found = [recipe.path for recipe in outlines([ROOT / "recipes"]) if recipe.method == spec.name]
    path = next((path for path in found if path.parent.name == "photos"), found[0])
    image = [f"data.name=folder:{photographs}", "train.batch_size=3"]
    tried = [[*image, f"data.options={{size: {side}}}"] for side in SIDES] if spec.modality == "image" else []
    for overrides in (*tried, []):  # what is for thousands of examples, or for one size, goes with its own data only
        recipe = load(path, overrides)
        source = open_data(recipe.data)
        try:
            method = build_method(recipe, source)
        except OptionsError:
            continue
        shown = pretext_examples(method, source, recipe.seed, len(PHOTOGRAPHS))
        targets.modality(source.modality).show(scratch, shown)
        keep(scratch, spec.name)
        return
    raise DataError(f"{spec.name}: its recipe {path} builds no method")


def keep(picture: Path, name: str) -> None:
    """Put a picture among those of the site, small."""
    image = Image.open(picture).convert("RGB")
    image.thumbnail((WIDEST, 2 * WIDEST), Image.Resampling.LANCZOS)
    PICTURES.mkdir(parents=True, exist_ok=True)
    image.save(PICTURES / f"{name}.webp", quality=80, method=6)
    print(f"{name}: {(PICTURES / name).with_suffix('.webp').stat().st_size / 1000:.0f} kB, {image.size}")


if __name__ == "__main__":
    main()
