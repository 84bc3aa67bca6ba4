"""The weights of a preset: in its package, or downloaded once, and always those that its record names.

What is downloaded lies in `$KZOO_HOME`, by default `~/.cache/kzoo`, under its SHA-256.
"""

import hashlib
import os
import urllib.error
import urllib.request
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from kzoo.errors import PresetError
from kzoo.plugins import registry
from kzoo.plugins.locate import resource
from kzoo.specs import PresetSpec
from kzoo.system import disk
from kzoo.system.console import make_console
from kzoo.system.files import replacing, sha256

_PIECE = 1 << 18  # bytes that are read at once
_PATIENCE = 60  # seconds that a server may say nothing


def find_weights(spec: PresetSpec) -> Path:
    """The file of a preset's weights, verified by its SHA-256; a URL is downloaded first, if it is not there yet.

    Raises PresetError: the file is not the one that the record names, or not available.
    """
    path = _place(spec)
    if _is_url(spec) and not path.exists():
        with disk.writing(path, PresetError):
            path.parent.mkdir(parents=True, exist_ok=True)
            _download(spec, path)
        return path
    try:
        found = sha256(path)
    except OSError as error:
        raise PresetError(f"{path}: cannot be read: {error.strerror}; {_remedy(spec)}") from error
    if found != spec.sha256:
        remedy = f"delete {path}, and it is downloaded again" if _is_url(spec) else _remedy(spec)
        raise PresetError(
            f"{path}: is not the file that preset '{spec.name}' names, by its SHA-256: {found[:12]}..., not "
            f"{spec.sha256[:12]}...; {remedy}"
        )
    return path


def awaits_download(spec: PresetSpec) -> bool:
    """Whether `find_weights` would download now."""
    return _is_url(spec) and not _place(spec).exists()


def _is_url(spec: PresetSpec) -> bool:
    return "://" in spec.weights


def _place(spec: PresetSpec) -> Path:
    if not _is_url(spec):
        return resource(spec.weights)
    home = os.environ.get("KZOO_HOME") or Path.home() / ".cache" / "kzoo"
    return Path(home) / "presets" / f"{spec.sha256}.keras"


def _download(spec: PresetSpec, path: Path) -> None:
    """Write beside, compare, rename: what has the place's name is whole and right."""
    columns = (TextColumn("downloading {task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(spec.weights, timeout=_PATIENCE) as source:
            total = int(source.headers.get("Content-Length") or 0) or spec.size or None
            console = make_console(stderr=True)
            with replacing(path) as scratch, Progress(*columns, console=console, transient=True) as bar:
                task = bar.add_task(spec.name, total=total)
                with scratch.open("wb") as file:
                    while piece := source.read(_PIECE):
                        digest.update(piece)
                        file.write(piece)
                        bar.advance(task, len(piece))
                if digest.hexdigest() != spec.sha256:
                    raise PresetError(
                        f"{spec.weights}: is not the file that preset '{spec.name}' names, by its SHA-256: "
                        f"{digest.hexdigest()[:12]}..., not {spec.sha256[:12]}...; try again, else {_remedy(spec)}"
                    )
    except urllib.error.URLError as error:
        raise PresetError(f"{spec.weights}: cannot be downloaded: {error.reason}; put the file at {path}") from error
    except (TimeoutError, ConnectionError) as error:
        raise PresetError(f"{spec.weights}: the download broke off: {error}; try again") from error


def _remedy(spec: PresetSpec) -> str:
    plugin = registry.provider(spec)
    return f"pip install --force-reinstall {plugin.distribution if plugin else 'the plugin that brings it'}"
