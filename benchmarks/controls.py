"""What keeps self-distillation from collapsing, shown by leaving it out.

Each control is a subclass of a method without one of its parts: SimSiam without the stop-gradient, BYOL without the
predictor, DINO without its centre, and without its low temperature. It is trained as its method is, some hundred steps
on Fashion-MNIST, and both are asked about held-out images: the spread of the projections and of the embedding (about 1
where they point everywhere, 0 in one point), their effective ranks, the linear probe, and of DINO the entropy of what
the teacher says (0: always the same prototype; log K: all prototypes alike).

    python benchmarks/controls.py [simsiam dino byol]
"""

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from kzoo_distillation.byol import BYOL
from kzoo_distillation.dino import DINO
from kzoo_distillation.simsiam import SimSiam
from record import origin

import kzoo
from kzoo.data import evaluation_batches
from kzoo.evaluate import effective_rank, embed, embedding_std, linear_probe
from kzoo.optimizers import build
from kzoo.recipe.schema import Optimizer
from kzoo.system.files import write_text

RESULTS = Path(__file__).parent / "results" / "controls.json"
STEPS = {"simsiam": 1000, "byol": 200, "dino": 300}
BATCH, EXAMPLES, HELD_OUT, PROTOTYPES = 128, 3200, 2000, 256


class NoStopGradient(SimSiam):
    """Both sides of SimSiam's cosine learn."""

    def answers(self, outputs: Any) -> Any:
        return outputs["z_0"], outputs["z_1"]


class NoPredictor(BYOL):
    """BYOL's projection itself says what the target makes of the other view."""

    def build_heads(self) -> None:
        super().build_heads()
        self.predictor.trainable = False

    def forward(self, batch: Any, training: bool) -> Any:
        outputs = super().forward(batch, training)
        return {**outputs, "p_0": outputs["z_0"], "p_1": outputs["z_1"]}


class NoCentre(DINO):
    """DINO's teacher is sharpened only."""

    def targets(self, logits: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(logits / self.value(self.options.teacher_temperature))


class NoSharpening(DINO):
    """DINO's teacher is centred only."""

    def targets(self, logits: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(logits - self.centre.read())


_VIEW = {"scale": [0.3, 1.0], "blur_p": 0.0}
_LARGE, _SMALL = {"scale": [0.4, 1.0], "blur_p": 0.0}, {"scale": [0.1, 0.4], "blur_p": 0.0}
_RISING = {"schedule": "cosine", "start": 0.98, "end": 1.0}
CONTROLS: dict[str, tuple[type[kzoo.Method], list[type[kzoo.Method]], dict[str, Any], dict[str, Any]]] = {
    "simsiam": (
        SimSiam,
        [NoStopGradient],
        {"projector": [128, 128], "bottleneck": 32, "view_0": _VIEW, "view_1": _VIEW},
        {"name": "sgd", "learning_rate": 0.3},
    ),
    "byol": (
        BYOL,
        [NoPredictor],
        {"projector": [128, 64], "predictor": [128, 64], "momentum": _RISING, "view_0": _VIEW, "view_1": _VIEW},
        {"name": "sgd", "learning_rate": 0.05},
    ),
    "dino": (
        DINO,
        [NoCentre, NoSharpening],
        {
            "head": [128, 64],
            "prototypes": PROTOTYPES,
            "local_views": 2,
            "local_size": 16,
            "momentum": _RISING,
            "view_0": _LARGE,
            "view_1": _LARGE,
            "local_view": _SMALL,
        },
        {"name": "adamw", "learning_rate": 5e-4, "weight_decay": 0.04, "clip_tensor_norm": 3.0},
    ),
}


def outcome(kind: type[kzoo.Method], options: dict[str, Any], update: dict[str, Any], steps: int) -> dict[str, Any]:
    """Train one; returns what has become of it."""
    keras.utils.set_random_seed(0)
    train = kzoo.open_dataset("fashion_mnist", limit=EXAMPLES)
    test = kzoo.open_dataset("fashion_mnist", split="test", limit=HELD_OUT)
    shape = (None, None, 1) if issubclass(kind, DINO) else train.image_shape
    backbone = kzoo.build_backbone("small_resnet", input_shape=shape, width=8)
    method = kind(backbone, data=train, **options)
    per_epoch = EXAMPLES // BATCH
    settings = Optimizer(schedule="constant", **{"weight_decay": 0.0, **update})
    optimizer = build(settings, batch_size=BATCH, steps_per_epoch=per_epoch, epochs=steps // per_epoch)
    method.compile(optimizer, total_steps=steps, clip_tensor_norm=settings.clip_tensor_norm)
    began = time.perf_counter()
    history = method.fit(train, batch_size=BATCH, epochs=steps // per_epoch, seed=0, verbose=0).history
    seconds = time.perf_counter() - began
    known, asked = (embed(method.encoder, evaluation_batches(source, 256)) for source in (train, test))
    probe, embedding = linear_probe(known, asked), asked.features
    return {
        "last_loss": round(float(history["loss"][-1]), 4),
        **projections(method, test),
        "embedding_spread": round(embedding_std(embedding), 4),
        "effective_rank": round(effective_rank(embedding), 2),
        "linear_probe": probe["test_accuracy"],
        "steps": steps // per_epoch * per_epoch,
        "seconds": round(seconds, 1),
    }


def projections(method: kzoo.Method, test: Any) -> dict[str, float]:
    """Of held-out views: the spread of what the loss compares, and the entropy of a teacher's words."""
    batch = next(iter(method.stream(test, batch_size=1000, seed=0)))
    if not isinstance(method, DINO):
        z = np.asarray(method.forward(batch, training=False)["z_0"])
        return {"spread": round(embedding_std(z), 4), "projections_rank": round(effective_rank(z), 2)}
    logits = method.teacher(batch["large"], training=False)
    says = np.asarray(method.targets(logits), "float64")
    mean = says.mean(axis=0)
    entropies = [-(p * np.log(p + 1e-30)).sum(-1).mean() for p in (says, mean)]
    return {
        "spread": round(embedding_std(logits), 4),
        "entropy": round(float(entropies[0]), 4),
        "entropy_of_mean": round(float(entropies[1]), 4),
        "log_k": round(math.log(PROTOTYPES), 4),
    }


def main(names: list[str]) -> None:
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in names or CONTROLS:
        whole, without, options, update = CONTROLS[name]
        rows[name] = {
            kind.__name__: outcome(kind, options, update, STEPS[name]) for kind in (whole, *without)
        } | origin()
        write_text(RESULTS, json.dumps(rows, indent=1) + "\n")
        for kind in (whole, *without):
            print(kind.__name__, rows[name][kind.__name__], flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
