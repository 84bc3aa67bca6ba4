"""Which version of an export answers: the newest one that is whole. A new one is loaded beside, then switched to."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kzoo.errors import KzooError, ServeError
from kzoo.export.contract import is_whole
from kzoo.export.layout import METADATA
from kzoo.serve.model import Model
from kzoo.serve.refusal import Refusal, shown
from kzoo.system.failures import short

GRAPH = "saved_model.pb"


@dataclass(frozen=True)
class Place:
    """Where an export lies. folder: with the versions in it. name: of the model. pinned: the one version to serve."""

    folder: Path
    name: str
    pinned: int | None

    @property
    def numbers(self) -> list[int]:
        """The versions that are there now, highest first."""
        entries = self.folder.iterdir() if self.folder.is_dir() else ()
        found = {int(entry.name) for entry in entries if _is_version(entry)}
        return sorted(found if self.pinned is None else found & {self.pinned}, reverse=True)


def find(path: Path | str) -> Place:
    """The export at `path`: a version's folder, or the one that holds the versions. Raises ServeError."""
    path = Path(path).absolute()
    if _is_version(path):
        return Place(path.parent, path.parent.name, int(path.name))
    if path.is_dir() and any(map(_is_version, path.iterdir())):
        return Place(path, path.name, None)
    if inside := sorted({file.parents[1] for file in path.glob(f"exports/*/*/{GRAPH}") if _is_version(file.parent)}):
        raise ServeError(f"{path}: a run; serve its export, {inside[0]}")
    raise ServeError(f"{path}: no export; expected a folder of versions (1, 2, ...), each with {GRAPH}")


class Versions:
    """The version that answers, which others follow.

    Whoever holds `current` may go on with it after a switch: the old one is freed when the last has let it go.
    """

    def __init__(self, place: Path | str, report: Callable[[str], None] = print):
        """Load the newest version. report: is told, a line each, of switches and of what cannot be served.

        Raises ServeError where nothing can be.
        """
        self.place = find(place)
        self.states: dict[int, str] = {}  # version → "" or why it cannot be served
        self._report = report
        self._failed: dict[int, object] = {}  # version → what its files looked like
        self._refreshing = threading.Lock()
        self._current: Model | None = None
        self.refresh()
        if self._current is None:
            newest = max(self.states)
            raise ServeError(f"{self.place.folder / str(newest)}: {self.states[newest]}")

    @property
    def current(self) -> Model:
        if self._current is None:
            raise ServeError(f"{self.place.folder}: no version is loaded")
        return self._current

    def of(self, name: str, version: str | None = None) -> Model:
        """The model of this name and version. Raises Refusal (404) where it is not served."""
        model = self.current
        if name != self.place.name:
            raise Refusal(404, f"model {shown(name)} is not served; '{self.place.name}' is")
        if version is not None and version != str(model.version):
            raise Refusal(404, f"version {shown(version)} is not served; {model.version} is")
        return model

    def refresh(self) -> None:
        """Look at the folder, and serve the newest version that can be: also an older one, where the newest was taken
        away. While none can, what is loaded goes on answering.
        """
        with self._refreshing:
            for number in self.place.numbers:
                if self._current is not None and number == self._current.version:
                    return
                if self._try(number):
                    return

    def _try(self, number: int) -> bool:
        folder = self.place.folder / str(number)
        looks = None
        try:
            looks = _looks(folder)
            if self._failed.get(number) == looks:  # still as it was when it failed
                return False
            if (folder / METADATA).is_file() and not is_whole(folder):
                raise ServeError("its files are not those it was written with, or not all are there yet")
            model = Model(folder)
        except Exception as error:  # whatever lies there must not stop what is served
            reason = str(error) if isinstance(error, KzooError) else short(error)
            self._failed[number], self.states[number] = looks, reason
            if self._current is not None:
                self._report(f"version {number} is not served: {reason}")
            return False
        before, self._current = self._current, model
        self.states[number] = ""
        if before is not None:
            self.states.pop(before.version, None)
            self._report(f"version {number} is served; version {before.version} finishes what it has begun")
        return True


def _is_version(folder: Path) -> bool:
    return folder.name.isascii() and folder.name.isdigit() and (folder / GRAPH).is_file()


def _looks(folder: Path) -> object:
    """What changes when a file of a folder does."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
