"""What surrounds a training: who else is in its folder, whether that can be written, whether the others are there."""

from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

from kzoo.distribute import workers
from kzoo.errors import CheckpointError, TrainingError
from kzoo.runs.run import Run
from kzoo.system import disk
from kzoo.system.files import locked

_LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError)


@contextmanager
def writing(run: Run) -> Iterator[None]:
    """Tell in one line that the disk is full or the folder read-only, or that the folder is gone."""
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{run.folder}: cannot be made: {error.strerror}; choose another --run-dir") from error
    try:
        with disk.writing(run.folder, TrainingError, "then go on with --resume: the last checkpoint is whole"):
            yield
    except (OSError, tf.errors.OpError) as error:  # TensorBoard's files are written by TensorFlow
        place = str(getattr(error, "filename2", None) or getattr(error, "filename", None))
        if isinstance(error, OSError) and error.errno in disk.IN_THE_WAY and place.startswith(str(run.folder)):
            raise CheckpointError(
                f"{place}: {error.strerror}; the run keeps something else of this name there; move it away, then go "
                "on with --resume"
            ) from error
        if run.folder.exists():
            raise
        raise TrainingError(f"{run.folder}: is gone: it was moved or deleted during the training") from error


@contextmanager
def alone(run: Run, strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Refuse a run that another process is training. The workers of one training share it."""
    if workers.several(strategy):
        yield
        return
    with locked(run.folder) as ours:
        if not ours:
            raise CheckpointError(f"{run.folder}: another process is training this run; wait for it, or stop it")
        yield


@contextmanager
def together(strategy: tf.distribute.Strategy, run: Run) -> Iterator[None]:
    """Tell in one line that another worker is gone."""
    try:
        yield
    except _LOST as error:
        if not workers.several(strategy):
            raise
        raise TrainingError(
            f"{run.folder}: another worker of this training is gone or cannot be reached; "
            "see what it said, then start all of them again with --resume"
        ) from error
