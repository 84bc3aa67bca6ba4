"""The plugin that `kill.py` installs: a backbone with dropout, and callbacks that record every step and may kill.

KZOO_KILL_AT=n ends the process by SIGKILL at the n-th thing it does while it saves.
"""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kzoo


@kzoo.hookimpl
def kzoo_backbones() -> Iterator[kzoo.BackboneSpec]:
    yield kzoo.BackboneSpec(
        name="dropout_net",
        target="kzoo_kill:dropout_net",
        options=kzoo.Options,
        family="kill",
        summary="two convolutions, dropout and a dense layer",
    )


@kzoo.hookimpl
def kzoo_callbacks(recipe: Any, run_dir: Path) -> Iterator[Any]:
    if at := os.environ.get("KZOO_KILL_AT"):
        _die_while_saving(run_dir, int(at))
    yield _recorder(run_dir)


def dropout_net(input_shape: tuple[int, int, int], options: kzoo.Options) -> Any:
    import keras

    image = x = keras.Input(input_shape)
    for width in (8, 16):
        x = keras.layers.Conv2D(width, 3, strides=2, use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))
    x = keras.layers.Dropout(0.3)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, {"embedding": keras.layers.Dense(16, activation="relu")(x)})


def _recorder(run_dir: Path) -> Any:
    import keras

    class Recorder(keras.callbacks.Callback):
        """Appends each step and its loss, exactly; counts the steps of each epoch, to see that its state is kept."""

        def __init__(self) -> None:
            super().__init__()
            self.count = 0

        def get_state(self) -> dict[str, int]:
            return {"count": self.count}

        def set_state(self, state: dict[str, int]) -> None:
            self.count = state["count"]

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.count = 0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.count += 1
            step = int(self.model.optimizer.iterations.numpy())
            _append(run_dir / "steps.txt", f"{step} {batch} {self.count} {float(logs['loss']).hex()}")

    return Recorder()


def _die_while_saving(run_dir: Path, at: int) -> None:
    """Count what a save does that leaves a trace on the disk; die before the n-th."""
    import shutil

    import numpy

    from kzoo.runs import checkpoint

    saving, events = False, 0

    def counted(what: str, function: Callable) -> Callable:
        def counting(*args: Any, **kwargs: Any) -> Any:
            nonlocal events
            if saving:
                if events == at:
                    _append(run_dir / "kills.txt", what)
                    os.kill(os.getpid(), signal.SIGKILL)
                events += 1
            return function(*args, **kwargs)

        return counting

    save = checkpoint.save

    def marked(*args: Any, **kwargs: Any) -> Path:
        nonlocal saving
        saving = True
        try:
            return save(*args, **kwargs)
        finally:
            saving = False

    checkpoint.save = marked
    for owner, name in ((numpy.lib.format, "write_array"), (os, "fsync"), (os, "rename"), (shutil, "rmtree")):
        setattr(owner, name, counted(name, getattr(owner, name)))


def _append(path: Path, line: str) -> None:
    """One write, so that a killed process leaves whole lines."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, f"{line}\n".encode())
    os.close(handle)
