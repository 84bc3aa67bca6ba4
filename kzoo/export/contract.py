"""`contract.json`: what an export takes and returns, what it was made from and proven with, and the sums of its files.

Its own bytes are bound too: they are `render` of what it says, and "digest" is the SHA-256 of all but that line. This
tells damage, not forgery: who can write a file can write its sum. Against forgers, publish the digest elsewhere.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kzoo.errors import ExportError, RecipeError
from kzoo.export.layout import METADATA
from kzoo.system.files import finite, sha256


def write_contract(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write it, when all other files of the export are written."""
    files = sorted(_files(folder) - {METADATA.as_posix()})
    sizes = {name: (folder / name).stat().st_size for name in files}
    contract = {**facts, "bytes": sizes, "sha256": {name: sha256(folder / name) for name in files}}
    (folder / METADATA).write_text(_render({**contract, "digest": _digest(contract)}), encoding="utf-8")


def find_export(place: str | Path) -> Path:
    """The version folder of an export: the given one, or the newest in it.

    Raises RecipeError where there is none: the call is wrong.
    """
    place = Path(place)
    versions = [path for path in place.glob("*/") if path.name.isdecimal() and (path / METADATA).is_file()]
    if versions:
        return max(versions, key=lambda path: int(path.name))
    if (place / METADATA).is_file():
        return place
    raise RecipeError(f"{place}: is no export, it has no {METADATA}; name a folder that `kzoo export` made")


def read_contract(folder: Path) -> dict[str, Any]:
    """What the contract says. Raises ExportError where a byte of it is another than was written."""
    path = folder / METADATA
    try:
        text = path.read_text(encoding="utf-8")
        contract = json.loads(text)
    except (OSError, ValueError, RecursionError):
        text, contract = "", None
    if not isinstance(contract, dict) or text != _render(contract) or contract.get("digest") != _digest(contract):
        raise ExportError(f"{path}: is not the file that was written; fetch the export again")
    return contract


def changed_files(folder: Path, contract: Mapping[str, Any]) -> list[str]:
    """One line for each file that is not what the contract says: missing, changed, or unknown to it."""
    known, found = contract["sha256"], _files(folder) - {METADATA.as_posix()}
    lines = [f"{name}: missing" for name in sorted(known.keys() - found)]
    lines += [f"{name}: is not of this export" for name in sorted(found - known.keys())]
    changed = [name for name in sorted(known.keys() & found) if sha256(folder / name) != known[name]]
    return lines + [f"{name}: is not the file that was written, by its SHA-256" for name in changed]


def is_whole(folder: Path) -> bool:
    """Whether an export holds, to the last bit, the files that it was written with, and no others."""
    try:
        return not changed_files(folder, read_contract(folder))
    except ExportError:
        return False


def _files(folder: Path) -> set[str]:
    return set(_relative(folder))


def _relative(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.is_file() or path.is_symlink():
            yield path.relative_to(folder).as_posix()


def _digest(contract: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in contract.items() if key != "digest"}
    return hashlib.sha256(_render(rest).encode()).hexdigest()


def _render(contract: Mapping[str, Any]) -> str:
    return json.dumps(finite(dict(contract)), indent=1, allow_nan=False) + "\n"
