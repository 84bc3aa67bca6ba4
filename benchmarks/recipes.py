"""The loss that each published recipe begins with, beside its closed form.

Builds the recipe's own backbone and method, gives it random images of the recipe's size, and asks for the loss of the
first step in training mode, before anything is updated. The batch is cut to a few images, so that it fits in 4 GiB and
into seconds; memories of all examples hold 50,000. The closed forms are for that batch. `tests/test_initial_loss.py`
holds the cheap ones to it.

    python benchmarks/recipes.py [cifar10/rotation ...]
"""

import dataclasses
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from record import origin

from kzoo.recipe.load import load
from kzoo.recipe.schema import Recipe
from kzoo.system.files import write_text

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "recipes.json"
SIDES = {"tfds:cifar10": 32, "tfds:stl10": 96, "tfds:imagenet_resized/32x32": 32}
CLASSES = {"tfds:imagenet2012": 1000}  # of the others 10
EXAMPLES = 50_000


@dataclass(frozen=True)
class Beginning:
    """form, value: the closed form in words, and its value for a recipe and a batch. tolerance: how far from it the
    loss may begin, and why. key: of the logs. batch: images."""

    form: str
    value: Callable[[Recipe, int], float]
    tolerance: float
    why: str
    key: str = "loss"
    batch: int = 8


def _noise_contrastive(recipe: Recipe, batch: int) -> float:
    noise = recipe.method.options["noise"]
    terms = 2 if recipe.method.name == "cmc" else 1
    return terms * (math.log(1 + noise) + noise * math.log(1 + 1 / noise) + _half_variance(recipe))


def _half_variance(recipe: Recipe) -> float:
    """Half the variance of scores of random unit vectors of d numbers at temperature T: 1 / (2 d T^2)."""
    return 1 / (2 * recipe.method.options["projector"][-1] * recipe.method.options["temperature"] ** 2)


def _queue(recipe: Recipe, batch: int) -> float:
    options = recipe.method.options
    return math.log1p(options["queue"] * math.exp(_half_variance(recipe) - 1 / options["temperature"]))


def _views(recipe: Recipe, batch: int) -> float:
    others = 2 * batch - 1
    return math.log(others) + 1 / (2 * others * recipe.method.options["temperature"] ** 2)


def _all_scores_zero(recipe: Recipe, batch: int) -> float:
    return 2 * math.log(1 + 25 * (batch - 1)) + math.log(1 + 49 * (batch - 1))


def _largest_of_many(recipe: Recipe, batch: int) -> float:
    """The largest of n normal scores of d numbers, d the units of the score: about sqrt(2 d log n), less its tail."""
    others, units = (batch - 1) * 64, recipe.method.options["units"]
    middle = math.sqrt(2 * math.log(others))
    return math.sqrt(units) * (middle - (math.log(math.log(others)) + math.log(4 * math.pi)) / (2 * middle))


def _patches(recipe: Recipe, batch: int) -> float:
    return math.log(batch * recipe.method.options["grid"] ** 2)


def _coding_rate(recipe: Recipe, batch: int) -> float:
    width, epsilon = recipe.method.options["projector"][-1], recipe.method.options["epsilon"]
    return batch / 2 * math.log(1 + width / (batch * epsilon))


def _correlations(recipe: Recipe, batch: int) -> float:
    width = recipe.method.options["projector"][-1]
    return width * (width - 1) / (batch - 1)


def _half_cosines(recipe: Recipe, batch: int) -> float:
    return math.log(recipe.method.options["prototypes"]) + _half_variance(recipe)


def _answers(recipe: Recipe, width: int) -> float:
    """Variance of what a Dense layer answers for the pixels of a patch, from normalised features: 2 d / (d + n)."""
    return 2 * width / (width + 3 * recipe.backbone.options.get("patch_size", 16) ** 2)


def _absolute_error(recipe: Recipe, batch: int) -> float:
    """Of answers to noise, of which bilinear resizing leaves 4/9 of the variance: the mean size of a normal number."""
    options, answers = recipe.method.options, _answers(recipe, _WIDTHS[recipe.backbone.name])
    pixels = [((0.5 - m) ** 2 + 4 / 9 / 12) / s**2 for m, s in zip(options["mean"], options["std"], strict=True)]
    return sum(math.sqrt(2 / math.pi * (answers + pixel)) / 3 for pixel in pixels)


def _smooth_l1(recipe: Recipe, batch: int) -> float:
    """The mean of it over normal differences of targets, variance 1, and answers, variance 2 w / (w + D)."""
    width, inside = _WIDTHS[recipe.backbone.name], recipe.method.options["predictor_width"]
    spread = math.sqrt(1 + 2 * inside / (inside + width))
    steps = [(number + 0.5) / 1000 for number in range(8000)]
    losses = [(0.5 * d * d if d < 1 else d - 0.5) * math.exp(-((d / spread) ** 2) / 2) for d in steps]
    return sum(losses) / 1000 * math.sqrt(2 / math.pi) / spread


_WIDTHS = {"vit_base": 768}


def _half_cosines_of_views(recipe: Recipe, batch: int) -> float:
    options = recipe.method.options
    return math.log(options["prototypes"]) + 1 / (2 * options["head"][-1] * options["student_temperature"] ** 2)


def _classes(recipe: Recipe) -> int:
    return CLASSES.get(recipe.data.name, 10)


def _smooth_distance(recipe: Recipe, batch: int) -> float:
    """The mean smooth L1 distance of two independent standard normal numbers, whose difference has variance 2."""
    beta, spread = recipe.method.options["beta"], math.sqrt(2)
    edge = beta / spread
    inside, tail = math.erf(edge / math.sqrt(2)), math.sqrt(2 / math.pi) * math.exp(-(edge**2) / 2)
    return spread**2 * (inside - edge * tail) / (2 * beta) + spread * tail - beta / 2 * (1 - inside)


def _prototypes(recipe: Recipe, batch: int) -> float:
    """A teacher that says of all views what the student says, more sharply, by cosines of variance 1 / d."""
    options = recipe.method.options
    student, teacher = options["student_temperature"], options["teacher_temperature"]
    teacher = teacher["start"] if isinstance(teacher, dict) else teacher
    gain = 1 / (2 * student**2) - 1 / (student * teacher)
    return math.log(options["prototypes"]) + gain / options["head"][-1]


_LOGITS = "features of hundreds of numbers after a ReLU give logits of variance up to 1; half of that is added"
_ALIKE = "an untrained ViT says nearly the same of all views of noise; of unlike ones it would be log K + 1 / (2 d T^2)"
BEGINNINGS = {
    "rotation": Beginning("log 4", lambda recipe, batch: math.log(4), 0.7, _LOGITS),
    "s4l_rotation": Beginning(
        "log K + log 4", lambda recipe, batch: math.log(_classes(recipe)) + math.log(4), 1.0, _LOGITS
    ),
    "s4l_exemplar": Beginning(
        "log K + log 2",
        lambda recipe, batch: math.log(_classes(recipe)) + math.log(2),
        1.3,
        "the farthest of 8 views lies beyond the nearest of other images; and the class logits vary",
        batch=4,
    ),
    "sla": Beginning("log(4 K)", lambda recipe, batch: math.log(4 * _classes(recipe)), 0.7, _LOGITS),
    "sla_sd": Beginning(
        "log(4 K) + log K",
        lambda recipe, batch: math.log(4 * _classes(recipe)) + math.log(_classes(recipe)),
        1.2,
        _LOGITS + "; in each of two heads",
    ),
    "jigsaw": Beginning("log K", lambda recipe, batch: math.log(recipe.method.options["permutations"]), 0.7, _LOGITS),
    "exemplar": Beginning("log N", lambda recipe, batch: math.log(EXAMPLES), 0.7, _LOGITS),
    "inst_disc": Beginning(
        "log(1 + m) + m log(1 + 1/m) + 1 / (2 d T^2)",
        _noise_contrastive,
        1.0,
        "eight random positives: twice 1 / (T sqrt(8 d))",
    ),
    "cmc": Beginning(
        "2 (log(1 + m) + m log(1 + 1/m))",
        _noise_contrastive,
        2.0,
        "scores vary by 1 / (T sqrt(d)); 4 positives",
        batch=4,
    ),
    "local_aggregation": Beginning(
        "log(1 + m) + m log(1 + 1/m) + 1 / (2 d T^2)",
        _noise_contrastive,
        1.0,
        "eight random positives: twice 1 / (T sqrt(8 d))",
    ),
    "moco_v1": Beginning(
        "log(1 + K exp(1 / (2 d T^2) - 1 / T))", _queue, 0.5, "an untrained network gives both views of noise one key"
    ),
    "moco_v2": Beginning(
        "log(1 + K exp(1 / (2 d T^2) - 1 / T))", _queue, 0.5, "an untrained network gives both views of noise one key"
    ),
    "moco_v3": Beginning(
        "4 T log B",
        lambda recipe, batch: 4 * recipe.method.options["temperature"] * math.log(batch),
        0.5,
        "cosines of the batch's keys with a query differ by some tenths",
        batch=4,
    ),
    "simclr": Beginning(
        "log(2 B - 1) + 1 / (2 (2 B - 1) T^2)",
        _views,
        0.5,
        "projections normalised over 2 B views fill 2 B - 1 dimensions",
    ),
    "cpc": Beginning("log(B G^2)", _patches, 0.3, "scores begin small", batch=4),
    "cpc_v2": Beginning("log(B G^2)", _patches, 0.3, "scores begin small: predictions are scaled by 0.1"),
    "relative_position": Beginning("log 8", lambda recipe, batch: math.log(8), 0.7, _LOGITS),
    "colorization": Beginning(
        "log 313, a pixel, not rebalanced", lambda recipe, batch: math.log(313), 0.7, _LOGITS, "cross_entropy", 4
    ),
    "amdim": Beginning(
        "2 log(1 + 25 (B - 1)) + log(1 + 49 (B - 1))",
        _all_scores_zero,
        25.0,
        "features normalised over 8 images fill 7 dimensions, so scores spread to 12 under their clip of 20",
    ),
    "deep_infomax": Beginning(
        "the largest of 64 (B - 1) normal scores of variance d",
        _largest_of_many,
        40.0,
        "dot products of d numbers are not scaled, as in the released code; locations of one image are alike",
    ),
    "context_encoder": Beginning(
        "2 log 2, of the adversary", lambda recipe, batch: 2 * math.log(2), 0.7, _LOGITS, "adversary_loss", 4
    ),
    "gan": Beginning("2 log 2 + log 2", lambda recipe, batch: 3 * math.log(2), 0.7, _LOGITS),
    "barlow_twins": Beginning(
        "correlations of d (d - 1) pairs of units, each 1 / (B - 1)",
        _correlations,
        500_000.0,
        "units of B images are random directions in B - 1 dimensions, if the network fills them evenly",
        "redundancy",
    ),
    "vicreg": Beginning(
        "1 - sqrt((1 / 2 - 1 / (2 pi)) B / (B - 1))",
        lambda recipe, batch: 1 - math.sqrt((1 / 2 - 1 / (2 * math.pi)) * batch / (batch - 1)),
        0.1,
        "units after a normalised layer and a ReLU, mixed by a Glorot matrix; standard deviations of 8 images vary",
        "variance",
    ),
    "lejepa": Beginning(
        "all embeddings at 0: (sqrt(2 pi) - 2 sqrt(pi) + sqrt(2 pi / 3)) B",
        lambda recipe, batch: (math.sqrt(2 * math.pi) - 2 * math.sqrt(math.pi) + math.sqrt(2 * math.pi / 3)) * batch,
        1.5,
        "an untrained ViT tells images of noise hardly apart; standard normal ones would have 1.06",
        "sigreg",
    ),
    "swav": Beginning(
        "log K + 1 / (2 d T^2)",
        _half_cosines,
        1.0,
        "views of one image have some of their prototypes in common before training",
        batch=4,
    ),
    "byol": Beginning(
        "4: predictions at right angles to the target",
        lambda recipe, batch: 4.0,
        0.6,
        "the mean after a ReLU gives all predictions a part in common, of cosine 1 / sqrt(256) with that of the target",
    ),
    "simsiam": Beginning(
        "0: predictions at right angles to the answers",
        lambda recipe, batch: 0.0,
        0.1,
        "random directions in 2048 dimensions; the answers' mean over the batch is 0",
    ),
    "dino": Beginning("log K + (1 / (2 T^2) - 1 / (T t)) / d", _prototypes, 1.0, _ALIKE, batch=4),
    "ibot": Beginning("log K + (1 / (2 T^2) - 1 / (T t)) / d", _prototypes, 1.0, _ALIKE, "view_loss", 4),
    "sere": Beginning("log K + (1 / (2 T^2) - 1 / (T t)) / d", _prototypes, 1.0, _ALIKE, "view_loss", 4),
    "dinov2": Beginning(
        "log K + 1 / (2 d T^2), of views",
        _half_cosines_of_views,
        1.0,
        "untrained, a balanced teacher has eight views of noise share prototypes that the student has not",
        "view_loss",
        4,
    ),
    "data2vec": Beginning(
        "the mean smooth L1 distance of independent standard normal numbers",
        _smooth_distance,
        0.1,
        "answers for all hidden patches are much alike, so they are one draw of 768 numbers",
    ),
    "emp_ssl": Beginning(
        "coding rate B / 2 log(1 + d / (B epsilon))", _coding_rate, 2.0, "B projections at right angles", "coding_rate"
    ),
}
BEGINNINGS |= {
    "mae": Beginning(
        "1 - 1 / n + 2 d / (d + n), n the numbers of a patch, d the decoder's width",
        lambda recipe, batch: 1 - 1 / (3 * 16**2) + _answers(recipe, recipe.method.options["decoder_width"]),
        0.15,
        "answers for all hidden patches are much alike, so they are one draw of n numbers",
    ),
    "simmim": Beginning(
        "sqrt(2 / pi (2 d / (d + n) + pixels' mean square))",
        _absolute_error,
        0.1,
        "answers for all hidden patches are much alike, so they are one draw of n numbers",
    ),
    "i_jepa": Beginning(
        "the mean smooth L1 of a normal number of variance 1 + 2 w / (w + D), w the predictor's width",
        _smooth_l1,
        0.1,
        "answers for all patches are much alike, and so are targets, so they are one draw of D numbers",
    ),
}


def initial_logs(recipe: Recipe, batch: int) -> dict[str, float]:
    """What the first step of a recipe logs, on random images, in training mode; nothing is updated by a gradient."""
    import keras
    import numpy as np
    import tensorflow as tf

    from kzoo.base.steps import StepLogs
    from kzoo.data import array_source
    from kzoo.layers import dropout_keys
    from kzoo.random import example_keys
    from kzoo.runs import build

    side = recipe.data.options.get("size") or SIDES[recipe.data.name]
    images = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3)).astype("uint8")
    classes = [f"class {number}" for number in range(_classes(recipe))]
    labels = np.where(np.arange(batch) % 2, np.arange(batch), -1)  # every other one is labelled
    source = dataclasses.replace(array_source("random", images, labels, classes), size=EXAMPLES)
    method = build.build_method(recipe, source)
    method.compile(keras.optimizers.SGD(0.0))

    def forward(part: Any, *, loss: Any = None, groups: Any = ()) -> StepLogs:
        with dropout_keys(part["seed"]):
            return StepLogs(loss(part)) if loss else method._named_loss(part, training=True)

    method.minimise = forward
    ids = tf.range(batch, dtype=tf.int64)
    raw = {"image": tf.constant(images), "id": ids, "label": tf.constant(labels, tf.int64)}
    logs = method.train_step(method.transform(raw, example_keys(0, 0, ids)))
    return {key: float(value) for key, value in logs.items()}


def beginning(name: str) -> dict[str, Any]:
    """A row of the results: measured, expected, and what the tolerance is."""
    recipe = load(ROOT / "recipes" / f"{name}.yaml")
    expected = BEGINNINGS[recipe.method.name]
    return {
        "batch": expected.batch,
        "recipe_batch": recipe.train.batch_size,
        "figure": expected.key,
        "measured": round(initial_logs(recipe, expected.batch)[expected.key], 4),
        "closed_form": expected.form,
        "expected": round(expected.value(recipe, expected.batch), 4),
        "tolerance": expected.tolerance,
        "why": expected.why,
    }


def main(names: list[str]) -> None:
    rows = json.loads(RESULTS.read_text())["recipes"] if RESULTS.exists() else {}
    for name in names:
        rows[name] = {**beginning(name), **origin()}
        print(name, rows[name]["measured"], rows[name]["expected"], flush=True)
        write_text(RESULTS, json.dumps({"recipes": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
