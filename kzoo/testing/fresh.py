"""Another process, which has seen nothing yet: what is saved must come back there, and what was begun go on there.

It is also where the replicas train, since the CPU can be cut in logical devices only before TensorFlow has used it.
"""

import gc
import multiprocessing
import os
import pickle
import sys
from collections.abc import Callable, Mapping
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

# Importing TensorFlow takes longer than most jobs. A server that has done so and nothing else is forked for each.
_SERVED = "forkserver" in multiprocessing.get_all_start_methods()
_PROCESSES: Any = multiprocessing.get_context("forkserver" if _SERVED else "spawn")


def prepare() -> None:
    """Start the server, if it does not run, so that it is ready once it is needed. Does not wait."""
    if not _SERVED:
        return
    _PROCESSES.set_forkserver_preload(["kzoo.testing.work"])
    real, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # the server keeps it; TensorFlow chats while it is imported
    try:
        forkserver.ensure_running()
    finally:
        os.dup2(real, 2)
        os.close(real)
        os.close(nowhere)


class FreshFailure(Exception):
    """What went wrong in the other process, in one line."""


class FreshProcess:
    """A Python process at work on a folder, which has imported TensorFlow and kzoo, and used neither.

    Args:
        folder: holds what the job needs. job: has `parts(folder)`, functions by name; goes there by pickle.
    """

    def __init__(self, folder: Path, job: Any):
        self.folder = folder
        (folder / "job.pickle").write_bytes(pickle.dumps(job))
        self._process = _PROCESSES.Process(target=_work, args=(folder, dict(os.environ)), daemon=True)
        self._process.start()

    def answer(self, part: str) -> Any:
        """What came of one part of the work; waits for it. Raises FreshFailure where it failed."""
        self._process.join()
        if code := self._process.exitcode:
            last = (self.folder / "said.txt").read_text(errors="replace").strip().splitlines()[-1:]
            raise FreshFailure(f"the fresh process ended with code {code}: {' '.join(last)}")
        answer = pickle.loads((self.folder / f"{part}.pickle").read_bytes())
        if isinstance(answer, FreshFailure):
            raise answer
        return answer

    def stop(self) -> None:
        """End it, if it still runs."""
        self._process.kill()
        self._process.join()


def _work(folder: Path, environment: Mapping[str, str]) -> None:
    """Do all parts of the work in the folder; each leaves its answer, or what was wrong, as a file."""
    gc.freeze()  # what the server imported stays: collecting garbage need not look at it every time
    os.environ.clear()
    os.environ.update(environment)
    with (folder / "said.txt").open("wb") as said:
        os.dup2(said.fileno(), sys.stdout.fileno())
        os.dup2(said.fileno(), sys.stderr.fileno())
    job = pickle.loads((folder / "job.pickle").read_bytes())
    for part, do in job.parts(folder).items():
        answer = pickle.dumps(_attempt(do))
        (folder / f"{part}.pickle").write_bytes(answer)


def _attempt(do: Callable[[], Any]) -> Any:
    try:
        return do()
    except Exception as error:
        return FreshFailure(f"{type(error).__name__}: {_brief(str(error))}")


def _brief(message: str) -> str:
    """One line. Keras puts whole configurations before what it encountered, and after."""
    return " ".join(message.rpartition("Exception encountered: ")[2].split())[:200]
