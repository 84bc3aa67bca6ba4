"""The guide "Your own photos" on 500 photographs: are planted near-duplicates found, and does fine-tuning help?

Real photographs that come with scikit-image and scikit-learn, cut into pictures of mixed sizes and kinds: JPEG, some
turned by EXIF, PNG with alpha, webp, grey. Of some, a copy is planted beside them: encoded again, a little smaller, or
with its edge cut off. Nine classes, one for each photograph; half of the pictures lie in folders of their class. Then
the commands of docs/photos.md, as they are written there, and what they say.

    python benchmarks/photos_guide.py [--folder DIR]
"""

import base64
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from kzoo_samples.photos import PHOTOGRAPHS
from PIL import Image, ImageEnhance
from record import origin

from kzoo.system.files import write_text

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "photos_guide.json"
PORT, PATIENCE = 8517, 180  # of the service; seconds that it may take to start
KINDS = ("plain.jpg", "turned.jpg", "alpha.png", "plain.webp", "grey.jpg", "plain.png")
_ORIENTATION, _TURNED = 274, 6  # EXIF's tag; 6: the camera was held a quarter turn to the left


def make_photos(folder: Path, count: int, planted: int, labelled: float = 0.5, seed: int = 0) -> list[tuple[str, str]]:
    """Write `count` pictures below a folder, `planted` of them copies of others; (picture, its copy) of each.

    Pictures are crops of 80 to 200 pixels; of one photograph they may overlap by at most half of the smaller. labelled:
    the share that lies in a folder of its class; the rest, and all copies, lie beside these folders.
    """
    rng = np.random.default_rng(seed)
    names, pairs = _pictures(count - planted, rng), []
    folder.mkdir(parents=True)
    for number, (label, image) in enumerate(names):
        kind = KINDS[number % len(KINDS)]
        place = folder / label if rng.random() < labelled else folder
        place.mkdir(exist_ok=True)
        path = place / f"IMG_{number:04d}{Path(kind).suffix}"
        _save(image, path, kind.partition(".")[0])
        if number < planted:
            copy = folder / f"copy_of_{number:04d}.jpg"
            _copy(image.convert("L").convert("RGB") if kind.startswith("grey") else image, copy, number % 3)
            pairs.append((path.relative_to(folder).as_posix(), copy.name))
    return pairs


def _pictures(count: int, rng: np.random.Generator) -> list[tuple[str, Image.Image]]:
    """(class, picture), the classes in turn."""
    taken: dict[str, list[tuple[int, int, int]]] = {label: [] for label in PHOTOGRAPHS}
    found = []
    photographs = {}
    for label, (package, path) in PHOTOGRAPHS.items():
        root = Path(importlib.util.find_spec(package).origin).parent
        image = Image.open(root / path).convert("RGB")
        scale = 640 / max(image.size)
        photographs[label] = image.resize([round(side * scale) for side in image.size], Image.Resampling.LANCZOS)
    while len(found) < count:
        label = list(PHOTOGRAPHS)[len(found) % len(PHOTOGRAPHS)]
        image = photographs[label]
        for _ in range(2000):
            side = int(rng.integers(80, 201))
            left, top = (int(rng.integers(0, length - side + 1)) for length in image.size)
            if all(_overlap((left, top, side), other) <= 0.5 for other in taken[label]):
                break
            side = 80
        taken[label].append((left, top, side))
        height = int(side * rng.uniform(0.7, 1.0))
        picture = image.crop((left, top, left + side, top + height))
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Color, ImageEnhance.Contrast):
            picture = enhance(picture).enhance(rng.uniform(0.6, 1.4))
        found.append((label, picture))
    return found


def _overlap(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """The common area of two squares (left, top, side), as a share of the smaller."""
    sides = [max(0, min(one[i] + one[2], other[i] + other[2]) - max(one[i], other[i])) for i in (0, 1)]
    return sides[0] * sides[1] / min(one[2], other[2]) ** 2


def _save(image: Image.Image, path: Path, kind: str) -> None:
    if kind == "turned":  # stored lying, and the file says how to stand it up
        exif = Image.Exif()
        exif[_ORIENTATION] = _TURNED
        image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=90)
    elif kind == "alpha":
        alpha = np.full((image.height, image.width), 255, np.uint8)
        alpha[:, : image.width // 10] = 0  # a transparent edge
        image.putalpha(Image.fromarray(alpha))
        image.save(path)
    elif kind == "grey":
        image.convert("L").save(path, quality=90)
    else:
        image.save(path, **({} if path.suffix == ".png" else {"quality": 90}))


def _copy(image: Image.Image, path: Path, way: int) -> None:
    """Encoded again; also a tenth smaller; also without 3 % at each edge."""
    image = image.convert("RGB") if image.mode != "RGBA" else _on_grey(image)
    if way == 1:
        image = image.resize((round(image.width * 0.9), round(image.height * 0.9)), Image.Resampling.BICUBIC)
    elif way == 2:
        edges = round(image.width * 0.03), round(image.height * 0.03)
        image = image.crop((*edges, image.width - edges[0], image.height - edges[1]))
    image.save(path, quality=75)


def _on_grey(image: Image.Image) -> Image.Image:
    ground = Image.new("RGB", image.size, (128, 128, 128))
    ground.paste(image, mask=image.getchannel("A"))
    return ground


def commands() -> list[str]:
    """Those of the guide, as they are written, but for the service, which does not end."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", (ROOT / "docs" / "photos.md").read_text("utf-8"), re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if not line.startswith("kzoo serve ")]


def run(command: str, place: Path) -> tuple[str, float]:
    """What a command prints, and the seconds of processor time that it takes."""
    before = os.times()
    words = [sys.executable, "-m", "kzoo", *shlex.split(command)[1:]]
    done = subprocess.run(words, cwd=place, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{command}: exit code {done.returncode}")
    after = os.times()
    return done.stdout, after.children_user + after.children_system - before.children_user - before.children_system


def planted_and_found(place: Path, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """How many of the planted copies are in one group with what they are copies of."""
    answer, _ = run("kzoo similar embeddings.parquet --json", place)
    groups = [{one["name"], *(other["name"] for other in one["others"])} for one in json.loads(answer)]
    missed = [copy for original, copy in pairs if not any({original, copy} <= group for group in groups)]
    grouped = sum(map(len, groups))
    return {"planted": len(pairs), "found": len(pairs) - len(missed), "missed": missed, "files_in_groups": grouped}


def accuracies(place: Path) -> dict[str, Any]:
    names = {"finetuned": "photos-finetuned", "from_scratch": "photos-finetuned-from-scratch"}
    reports = {key: json.loads((place / "runs" / name / "evaluation.json").read_text()) for key, name in names.items()}
    return {
        **{key: round(report["pretext"]["own"]["test_accuracy"], 4) for key, report in reports.items()},
        "test_examples": reports["finetuned"]["trained"]["labelled_test_examples"],
        "train_labels": reports["finetuned"]["trained"]["labelled_train_examples"],
        "chance": round(reports["finetuned"]["trained"]["chance"]["accuracy"], 4),
    }


def served(place: Path) -> dict[str, Any]:
    """Start the guide's service, ask it for the vectors of a JPEG and a PNG, and stop it."""
    name = "photos-finetuned"
    words = [sys.executable, "-m", "kzoo", "serve", f"runs/{name}/exports/{name}", "--port", str(PORT)]
    files = [next(iter(sorted((place / "photos").rglob(f"*.{suffix}")))) for suffix in ("jpg", "png")]
    rows = [{"b64": base64.b64encode(file.read_bytes()).decode()} for file in files]
    body = json.dumps({"signature_name": "serve_bytes", "instances": rows}).encode()
    server = subprocess.Popen(words, cwd=place, stdout=subprocess.DEVNULL)
    try:
        for _ in range(PATIENCE):
            try:
                url = f"http://127.0.0.1:{PORT}/v1/models/{name}:predict"
                with urllib.request.urlopen(urllib.request.Request(url, body), timeout=30) as answer:
                    vectors = json.load(answer)["predictions"]
                return {"files": len(files), "vectors": len(vectors), "width": len(vectors[0])}
            except urllib.error.URLError:  # not up yet
                time.sleep(1)
    finally:
        server.terminate()
        server.wait()
    raise SystemExit("the service did not answer")


def main(
    folder: Annotated[Path | None, typer.Option(help="where to work, and to go on; a temporary folder")] = None,
    count: Annotated[int, typer.Option(help="photographs")] = 500,
    planted: Annotated[int, typer.Option(help="near-duplicates among them")] = 30,
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        place = folder or Path(scratch)
        place.mkdir(parents=True, exist_ok=True)
        known = place / "done.json"
        done: dict[str, Any] = json.loads(known.read_text()) if known.exists() else {}
        if "pairs" not in done:
            done["pairs"] = make_photos(place / "photos", count, planted)
            (place / "recipes").symlink_to(ROOT / "recipes")
        for command in commands():
            if command not in done:
                print(f"$ {command}", flush=True)
                out, done[command] = run(command, place)
                print(out, flush=True)
                known.write_text(json.dumps(done))
        result = {
            "photographs": count,
            "near_duplicates": planted_and_found(place, [tuple(pair) for pair in done["pairs"]]),
            "accuracy": accuracies(place),
            "cpu_seconds": {command: round(done[command], 1) for command in commands()},
            **origin(),
        }
        write_text(RESULTS, json.dumps(result, indent=1) + "\n")
        result["service"] = served(place)
        write_text(RESULTS, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    typer.run(main)
