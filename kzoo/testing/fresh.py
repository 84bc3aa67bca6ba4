"""Another process, which has seen nothing yet: what is saved must come back there, and what was begun go on there.

It is also where the replicas train, since the CPU can be cut in logical devices only before TensorFlow has used it.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


class FreshFailure(Exception):
    """What went wrong in the other process, in one line."""


class FreshProcess:
    """A Python process at work on a folder.

    Args:
        folder: holds what the job needs. job: has `parts(folder)`, functions by name; goes there by pickle.
    """

    def __init__(self, folder: Path, job: Any):
        self.folder = folder
        (folder / "job.pickle").write_bytes(pickle.dumps(job))
        with (folder / "said.txt").open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"from {__name__} import main; main()", str(folder)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TF_CPP_MIN_LOG_LEVEL": "3"},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    def answer(self, part: str) -> Any:
        """What came of one part of the work; waits for it. Raises FreshFailure where it failed."""
        code = self._process.wait()
        if code:
            last = (self.folder / "said.txt").read_text(errors="replace").strip().splitlines()[-1:]
            raise FreshFailure(f"the fresh process ended with code {code}: {' '.join(last)}")
        answer = pickle.loads((self.folder / f"{part}.pickle").read_bytes())
        if isinstance(answer, FreshFailure):
            raise answer
        return answer

    def stop(self) -> None:
        """End it, if it still runs."""
        self._process.kill()
        self._process.wait()


def main() -> None:
    """Do all parts of the work in the folder that is named; each leaves its answer, or what was wrong, as a file."""
    folder = Path(sys.argv[1])
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
