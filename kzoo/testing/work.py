"""The reference run, and what the fresh process does: reload, resume, train on replicas."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kzoo.distribute import devices
from kzoo.method import Batch, Method
from kzoo.runs import checkpoint
from kzoo.testing.examples import COUNT
from kzoo.testing.replicas import Trace, build_in_float64, trace, train_on_batches
from kzoo.testing.setups import BATCH, BackboneSetup, MethodSetup

STEPS = 10  # of the reference run, two an epoch
RESUMED = (0, 5, 6, STEPS)  # where it is resumed: at its beginning, within an epoch, between two, after its end
COMPILED_FROM = 6  # on, steps that XLA compiles
_PER_EPOCH = COUNT // BATCH


@dataclass(frozen=True)
class Job:
    """What the fresh process needs to know; goes there by pickle.

    inputs: what the reloaded model is called on. batches: of the reference run, made by the pretext.
    replicas: the counts that train on them.
    """

    setup: MethodSetup | BackboneSetup
    inputs: np.ndarray
    batches: Sequence[Batch] = ()
    replicas: Sequence[int] = ()

    def parts(self, folder: Path) -> dict[str, Callable[[], Any]]:
        """The parts of the work, in order. folder: holds `model.keras`, and of a method its checkpoints."""
        if isinstance(self.setup, BackboneSetup):
            return {"reload": partial(_reload_backbone, self.setup, self.inputs, folder)}
        devices.split_cpu(max(self.replicas, default=1))
        return {
            "reload": partial(_reload_method, self.setup, self.inputs, folder),
            "resume": partial(_resume, self.setup, self.batches, folder),
            **({"xla": partial(_resume_with_xla, self.setup, self.batches, folder)} if self.setup.spec.xla else {}),
            **{f"replicas_{count}": partial(_replicate, self.setup, self.batches, count) for count in self.replicas},
        }


def build_reference(
    setup: MethodSetup, strategy: tf.distribute.Strategy | None = None, seed: int = 0, jit_compile: bool = False
) -> Method:
    """The method in float64, ready for the reference run."""
    return build_in_float64(setup.build, strategy, setup.optimizer, STEPS, seed, jit_compile)


def run_reference(
    method: Method,
    batches: Sequence[Batch],
    start: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Trace:
    """Train on the batches up to step `STEPS`, from step `start` on."""
    figures = train_on_batches(method, batches, STEPS, epochs=STEPS // _PER_EPOCH, start=start, callbacks=callbacks)
    return trace(method, figures)


def _reload_method(setup: MethodSetup, inputs: np.ndarray, folder: Path) -> dict[str, Any]:
    """The saved method's "answer" to the inputs, its "options", "data" and "weights"."""
    setup.import_unlisted()
    method = keras.saving.load_model(folder / "model.keras")
    return {
        "answer": np.asarray(method(inputs)),
        "options": method.options,
        "data": method.data,
        "weights": [np.asarray(weight) for weight in method.variables],
    }


def _reload_backbone(setup: BackboneSetup, inputs: np.ndarray, folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """The outputs of the backbone "as a file", and of one "built anew" that the weights were loaded into."""
    setup.import_unlisted()
    loaded = keras.saving.load_model(folder / "model.keras")  # before building anew imports what it needs
    anew = setup.build(inputs.shape[max(1, inputs.ndim - 2)], setup.examples.depth)  # the side, or the length of text
    anew.load_weights(folder / "model.weights.h5")
    found = {"as a file": loaded, "built anew": anew}
    return {
        how: {name: np.asarray(value) for name, value in model(inputs, training=False).items()}
        for how, model in found.items()
    }


def _resume(setup: MethodSetup, batches: Sequence[Batch], folder: Path) -> dict[int, Trace]:
    """Go on from each checkpoint with a method that began otherwise; by the step."""
    method = build_reference(setup, seed=1)
    traces = {}
    for step in RESUMED:
        checkpoint.restore(folder / f"after_{step}", checkpoint.state(method), recipe_hash="check")
        traces[step] = run_reference(method, batches, start=step)
    return traces


def _resume_with_xla(setup: MethodSetup, batches: Sequence[Batch], folder: Path) -> Trace:
    """Go on from the checkpoint after `COMPILED_FROM` steps with a step that XLA compiled."""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"  # half the time
    method = build_reference(setup, jit_compile=True)
    checkpoint.restore(folder / f"after_{COMPILED_FROM}", checkpoint.state(method), recipe_hash="check")
    return run_reference(method, batches, start=COMPILED_FROM)


def _replicate(setup: MethodSetup, batches: Sequence[Batch], count: int) -> Trace:
    """The reference run on several replicas."""
    strategy: tf.distribute.Strategy = devices.make_strategy("mirrored", count, BATCH)
    return run_reference(build_reference(setup, strategy), batches)
