"""Each loss beside that of lightly and stable-pretraining: the same arrays, ten draws, in float64.

Prints the largest difference from each peer, of the larger of the loss and 1, and keeps it in `results/oracles.json`.
Where a peer differs by more than 1e-5, `NOTES` says why and who is right; a difference without a note is a failure.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "oracles.json"
DRAWS, EXAMPLES, WIDTH, PROTOTYPES, PATCHES = 10, 32, 16, 24, 16
TOLERANCE = 1e-5

NOTES = {
    ("Barlow Twins", "stable-pretraining BarlowTwinsLoss"): "divides by the deviation over n - 1 examples, the sums by "
    "n: the correlation of equal views is (n - 1) / n, and the loss is never 0. Batch normalisation, which the paper's "
    "code standardises by, divides by n, as here and in lightly",
    ("iBOT, patches", "stable-pretraining iBOTPatchLoss"): "the mean over all hidden patches; the authors' code takes "
    "the mean over those of an image, then over images, as here and in lightly",
    ("SwAV, two views", "stable-pretraining SwAVLoss"): "shares the prototypes among both views together; the authors' "
    "code shares them among the examples of each view apart, as here and in lightly",
    ("EMP-SSL", "lightly EMPSSLLoss"): "adds the coding rate, which the paper's equation 4 and the authors' code "
    "subtract: minimised, it makes the codes collapse. With the sign turned it is the loss here",
}

Arrays = dict[str, Any]


def draws() -> dict[str, list[dict[str, np.ndarray]]]:
    """Ten draws of the arrays of each loss, examples first."""

    def unit(values: np.ndarray) -> np.ndarray:
        return values / np.linalg.norm(values, axis=-1, keepdims=True)

    found: dict[str, list[dict[str, np.ndarray]]] = {}
    for number in range(DRAWS):
        rng = np.random.default_rng(number)

        def normal(*shape: int, rng: np.random.Generator = rng) -> np.ndarray:
            return rng.normal(size=shape)

        first = normal(EXAMPLES, WIDTH)
        twins = {"z_0": 1.5 * first + 0.5, "z_1": 1.2 * first + 0.7 * normal(EXAMPLES, WIDTH)}
        answers = {name: normal(EXAMPLES, WIDTH) for name in ("p_0", "p_1", "target_0", "target_1")}
        hidden = np.argsort(normal(EXAMPLES, PATCHES), axis=1) < rng.integers(1, PATCHES, (EXAMPLES, 1))
        scores = unit(normal(EXAMPLES, 4, PROTOTYPES))
        masked = np.argsort(normal(EXAMPLES, PATCHES), axis=1) < 12
        pixels = {"images": rng.uniform(size=(EXAMPLES, PATCHES, 48)), "predicted": normal(EXAMPLES, PATCHES, 48)}
        of = {
            "NT-Xent": twins,
            "NT-Xent, decoupled": twins,
            "InfoNCE with a queue": {**twins, "queue": unit(normal(64, WIDTH))},
            "Barlow Twins": twins,
            "VICReg": twins,
            "LeJEPA": {"views": normal(EXAMPLES, 4, WIDTH), "directions": unit(normal(64, WIDTH))},
            "SimSiam": answers,
            "BYOL": answers,
            "DINO": {
                "said": normal(EXAMPLES, 4, PROTOTYPES),
                "taught": 0.2 * normal(EXAMPLES, 2, PROTOTYPES),
            },
            "iBOT, patches": {
                "said": normal(EXAMPLES, PATCHES, PROTOTYPES),
                "taught": 0.2 * normal(EXAMPLES, PATCHES, PROTOTYPES),
                "hidden": hidden.astype("float64"),
            },
            "KoLeo": {"z_0": twins["z_0"]},
            "SwAV, multi-crop": {"scores": scores},
            "SwAV, two views": {"scores": scores[:, :2]},
            "MAE, pixels": {**pixels, "hidden": masked.astype("float64")},
            "MAE, normalised patches": {**pixels, "hidden": masked.astype("float64")},
            "EMP-SSL": {"codes": unit(normal(EXAMPLES, 4, WIDTH) + 0.5)},
        }
        for name, arrays in of.items():
            found.setdefault(name, []).append(arrays)
    return found


def ours() -> dict[str, Callable[[Arrays], Any]]:
    """What kzoo makes of the arrays of each loss: the methods' own, after their heads. Call it under the strategy."""
    import keras
    import tensorflow as tf
    from kzoo_decorrelation import lejepa as lejepa_module
    from kzoo_distillation.parts.koleo import koleo

    import kzoo
    from kzoo import losses, patches
    from kzoo.plugins import registry
    from kzoo.testing.tiny import tiny_backbone, tiny_vision_transformer

    keras.config.set_dtype_policy("float64")
    keras.config.set_floatx("float64")

    def built(name: str, tiny: Callable[..., keras.Model] = tiny_backbone, **options: Any) -> kzoo.Method:
        side = None if registry.find_method(name).any_size and tiny is tiny_backbone else 32
        return kzoo.build_method(name, backbone=tiny((side, side, 3)), **options)

    def of_twins(name: str, **options: Any) -> Callable[[Arrays], Any]:
        method = built(name, **options)
        return lambda a: method.loss({"z_0": a["z_0"], "z_1": a["z_1"]}, {})["loss"]

    def queue(a: Arrays) -> tf.Tensor:
        query, key = losses.l2_normalize(a["z_0"]), tf.stop_gradient(losses.l2_normalize(a["z_1"]))
        logits = losses.info_nce_logits(query, key, a["queue"], 0.2)
        return losses.cross_entropy(logits, tf.zeros(tf.shape(query)[:1], tf.int32))

    lejepa = built("lejepa", local_views=2, projector=[WIDTH], points=33, bound=3.0)

    def of_views(a: Arrays) -> tf.Tensor:
        seeds = tf.zeros(tf.shape(a["views"])[:1], tf.int64)
        with patch.object(lejepa_module, "unit_directions", lambda *_: a["directions"]):  # which it would draw
            return lejepa.loss({"z": a["views"]}, {"seed": seeds})["loss"]

    simsiam, byol = built("simsiam"), built("byol")

    def of_simsiam(a: Arrays) -> tf.Tensor:
        outputs = {"p_0": a["p_0"], "p_1": a["p_1"], "z_0": a["target_0"], "z_1": a["target_1"]}
        return simsiam.loss(outputs, {})["loss"]

    def of_byol(a: Arrays) -> tf.Tensor:
        return byol.loss({"p_0": a["p_0"], "p_1": a["p_1"], "z_0": a["p_0"]}, a)["loss"]

    heads = {"prototypes": PROTOTYPES, "head": [8]}
    dino = built("dino", local_views=2, **heads)

    def flat(views: tf.Tensor) -> tf.Tensor:
        return tf.reshape(views, [-1, views.shape[-1]])

    def of_dino(a: Arrays) -> tf.Tensor:
        outputs = {"large": flat(a["said"][:, :2]), "small": flat(a["said"][:, 2:])}
        return dino.loss(outputs, {"taught": flat(a["taught"])})["loss"]

    ibot = built("ibot", tiny_vision_transformer, local_views=0, **heads)

    def of_ibot(a: Arrays) -> tf.Tensor:
        outputs = {"large": a["said"][:, 0], "patches": a["said"], "hidden": a["hidden"] > 0}
        batch = {"taught": a["taught"][:, 0], "taught_patches": a["taught"]}
        return ibot.loss(outputs, batch)["patch_loss"]

    def of_swav(local_views: int) -> Callable[[Arrays], Any]:
        options = {"projector": [PROTOTYPES], "prototypes": PROTOTYPES, "local_views": local_views, "queue": None}
        swav = built("swav", **options)
        swav.prototypes.kernel.assign(tf.eye(PROTOTYPES, dtype=tf.float64))  # then z are scores

        def loss(a: Arrays) -> tf.Tensor:
            sizes = {"large": a["scores"][:, :2], "small": a["scores"][:, 2:]}
            return swav.loss({size: flat(each) for size, each in sizes.items() if each.shape[1]}, {})

        return loss

    def of_mae(normalise: bool) -> Callable[[Arrays], Any]:
        mae = built("mae", tiny_vision_transformer, normalise_patches=normalise)
        mae.patches = patches.Patches(4, 0, frozenset())  # of the arrays

        def loss(a: Arrays) -> tf.Tensor:
            hidden = tf.argsort(a["hidden"], direction="DESCENDING", stable=True)[:, :12]
            images = patches.unpatchify(a["images"], 4, (4, 4))
            predicted = tf.gather(a["predicted"], hidden, batch_dims=1)
            return mae.loss({"predicted": predicted, "hidden": hidden}, {"image": images})["loss"]

        return loss

    emp_ssl = built("emp_ssl")
    return {
        "NT-Xent": of_twins("simclr", temperature=0.5),
        "NT-Xent, decoupled": of_twins("simclr", temperature=0.5, decoupled=True),
        "InfoNCE with a queue": queue,
        "Barlow Twins": of_twins("barlow_twins"),
        "VICReg": of_twins("vicreg"),
        "LeJEPA": of_views,
        "SimSiam": of_simsiam,
        "BYOL": of_byol,
        "DINO": of_dino,
        "iBOT, patches": of_ibot,
        "KoLeo": lambda a: koleo(a["z_0"]),
        "SwAV, multi-crop": of_swav(2),
        "SwAV, two views": of_swav(0),
        "MAE, pixels": of_mae(False),
        "MAE, normalised patches": of_mae(True),
        "EMP-SSL": lambda a: emp_ssl.loss(a, {})["loss"],
    }


def ask_peers(python: Path, drawn: dict[str, list[dict[str, np.ndarray]]], *options: str) -> dict[str, Any]:
    """The answers of `peers_losses.py` in the peers' environment."""
    with tempfile.TemporaryDirectory() as folder:
        arrays, answers = Path(folder, "draws.npz"), Path(folder, "answers.json")
        named = {
            f"{name}|{number}|{array}": values
            for name, several in drawn.items()
            for number, one in enumerate(several)
            for array, values in one.items()
        }
        np.savez(arrays, **named)
        subprocess.run([python, HERE / "peers_losses.py", arrays, answers, *options], check=True)
        return json.loads(answers.read_text())


def main(
    peers_python: Annotated[Path, typer.Option(help="Python of the environment that holds peers.txt")],
    json_path: Annotated[Path, typer.Option("--json", help="where the results go")] = RESULTS,
) -> None:
    from record import origin

    from kzoo.system.files import write_text

    console, drawn = Console(), draws()
    with Console(stderr=True).status("") as status:
        status.update("lightly and stable-pretraining")
        peers = ask_peers(peers_python, drawn)
        status.update("kzoo")
        losses = {name: [float(loss(arrays)) for arrays in drawn[name]] for name, loss in ours().items()}
    rows, failed = [], []
    for name, mine in losses.items():
        for peer, theirs in peers["losses"][name].items():
            if "gather_distributed" in peer:  # with one process the same
                continue
            worst = float(np.max(np.abs(np.subtract(mine, theirs)) / np.maximum(1.0, np.abs(mine))))
            note = NOTES.get((name, peer), "") if worst > TOLERANCE else ""
            rows.append({"loss": name, "peer": peer, "difference": worst, "ours": mine[0], "theirs": theirs[0]})
            rows[-1] |= {"note": note} if note else {}
            failed += [f"{name}, {peer}"] if worst > TOLERANCE and not note else []
    versions = {"kzoo": version("kzoo"), "tensorflow": version("tensorflow"), **peers["versions"]}
    settings = {"draws": DRAWS, "examples": EXAMPLES, "precision": "float64", "tolerance": TOLERANCE}
    write_text(json_path, json.dumps({**origin(), "versions": versions, **settings, "losses": rows}, indent=1) + "\n")

    table = Table("loss", "peer", "difference")
    for row in rows:
        table.add_row(row["loss"], row["peer"], f"{row['difference']:.1e}")
    console.print(table)
    for row in rows:
        if "note" in row:
            console.print(f"{row['loss']}, {row['peer']}: {row['note']}.")
    if failed:
        raise SystemExit(f"differ by more than {TOLERANCE:g}: {'; '.join(failed)}")


if __name__ == "__main__":
    typer.run(main)
