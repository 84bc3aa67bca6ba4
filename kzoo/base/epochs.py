"""Callbacks that every training has: an epoch begins once, its figures are means, and it may go on where it stopped."""

from typing import Any

import keras
import numpy as np

from kzoo.errors import TrainingError


class EpochMeans(keras.callbacks.Callback):
    """Makes the epoch's figures the means over its steps, and stops at the first loss that is not a number."""

    def __init__(self) -> None:
        super().__init__()
        self.sums: dict[str, float] = {}
        self.steps = 0

    def get_state(self) -> dict[str, Any]:
        return {"sums": self.sums, "steps": self.steps}

    def set_state(self, state: dict[str, Any]) -> None:
        self.sums, self.steps = state["sums"], state["steps"]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.model.begin_epoch(epoch)
        self.sums, self.steps = {}, 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps += 1
        for key, value in (logs or {}).items():
            self.sums[key] = self.sums.get(key, 0.0) + float(value)
        if not np.isfinite(logs["loss"]):
            step = int(self.model.optimizer.iterations.numpy())
            rate = float(self.model.optimizer.learning_rate)
            raise TrainingError(
                f"{self.model.name}: the loss is {float(logs['loss'])} at step {step}, learning rate {rate:.3g}; "
                "lower optimizer.learning_rate, or set optimizer.clip_norm"
            )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs.update({key: value / self.steps for key, value in self.sums.items()})


class RestOfEpoch(keras.callbacks.CallbackList):
    """The callbacks of a training that goes on within an epoch, which Keras knows only whole: shortens the first epoch,
    and numbers its steps from where the epoch truly began."""

    def __init__(self, callbacks: list[Any], done: int, model: Any, verbose: Any, **params: Any):
        super().__init__(callbacks, add_history=True, add_progbar=verbose != 0, model=model, verbose=verbose, **params)
        self.done = done  # steps of the current epoch that an earlier training made

    def on_train_begin(self, logs: Any = None) -> None:
        self.iterator = self.model.epoch_iterator
        self.iterator.steps_per_epoch -= self.done
        super().on_train_begin(logs)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        for callback in self.callbacks:
            if not (self.done and hasattr(callback, "set_state")):
                callback.on_epoch_begin(epoch, logs)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        super().on_train_batch_begin(self.done + batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        super().on_train_batch_end(self.done + batch, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        super().on_epoch_end(epoch, logs)
        self.iterator.steps_per_epoch += self.done
        self.done = 0
