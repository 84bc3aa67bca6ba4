"""`kzoo verify`: an export proves, on any machine, that it is what was written and returns what was recorded."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from kzoo.errors import ExportError, KzooError, PluginError
from kzoo.export.contract import changed_files, find_export, read_contract
from kzoo.export.proof import prove
from kzoo.plugins import registry
from kzoo.plugins.formats import runtime_version
from kzoo.system.console import marked
from kzoo.system.failures import short

SAVED_MODEL = "saved_model"
_COLOURS = {"proven": "green", "wrong": "red", "not proven": "yellow"}


@dataclass(frozen=True)
class Check:
    """What became of one check. verdict: "proven", "wrong" or "not proven". found: in words. error: the largest."""

    name: str
    verdict: str
    found: str
    error: float | None = None


def verify(place: Path, console: Console, probe: bool = False) -> dict[str, Any]:
    """Check every file's SHA-256, that the SavedModel can only compute, and each format against the recorded answers.

    probe: and whether it is worth what its contract says, beside the untrained network; needs the data that it says.
    Prints a table and returns it as plain JSON. No file that is not the one that was written is ever opened by what
    reads models.
    Raises RecipeError where there is no export; ExportError where something is wrong with it; PluginError where no
    format could be proven, as no runtime is installed.
    """
    began, folder = time.monotonic(), find_export(place)
    contract = read_contract(folder)
    if changed := changed_files(folder, contract):
        raise ExportError("\n".join(f"{folder}: {line}" for line in changed))
    files = len(contract["sha256"]) + 1
    checks = [Check("files", "proven", f"{files}, each as it was written (SHA-256)")]
    with console.status("") as status:
        for check in _of_formats(folder, contract, status):
            checks.append(check)
    if probe:
        checks.append(_probed(folder, contract, console))
    seconds = time.monotonic() - began
    console.print(_table(checks, f"{contract['name']}, version {folder.name}"))
    console.print(f"contract: {contract['digest']}", markup=False, soft_wrap=True)
    wrong = [check for check in checks if check.verdict == "wrong"]
    if wrong:
        raise ExportError("\n".join(f"{folder}: {check.name}: {check.found}" for check in wrong))
    proven = [check.name for check in checks if check.error is not None]
    if not proven:
        why = "; ".join(f"{check.name}: {check.found}" for check in checks if check.verdict == "not proven")
        raise PluginError(f"{folder}: no format could be proven: {why}")
    console.print(f"[green]proven[/] in {seconds:.0f} s: [bold]{marked(folder)}[/bold] ({', '.join(proven)})")
    return {"export": str(folder), "digest": contract["digest"], "checks": [vars(check) for check in checks]}


def _written(contract: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: found for name, found in contract["formats"].items() if "refused" not in found}


def _of_formats(folder: Path, contract: dict[str, Any], status: Any) -> Iterator[Check]:
    for name in _written(contract):
        status.update(f"proving {name}")
        if name == SAVED_MODEL:
            yield _operations(folder)
        try:
            spec = registry.find_format(name)
        except PluginError as error:
            yield Check(name, "not proven", str(error))
            continue
        version = runtime_version(spec)
        if not version:
            yield Check(name, "not proven", f"{spec.runtime} is not installed: pip install '{spec.install}'")
            continue
        try:
            largest = prove(folder, spec, contract["recorded"]["inputs"])
            yield Check(name, "proven", f"as recorded, by {spec.runtime} {version}", largest)
        except ExportError as error:
            yield Check(name, "wrong", str(error).removeprefix(f"{name}: "))


def _operations(folder: Path) -> Check:
    """Whether the SavedModel can only compute: read, not run."""
    from kzoo.export.check_ops import check_ops

    try:
        check_ops(folder)
    except ExportError as error:
        return Check("operations", "wrong", str(error).removeprefix(f"{folder}: "))
    except Exception as error:  # the file is no SavedModel
        return Check("operations", "wrong", short(error))
    return Check("operations", "proven", "the SavedModel can only compute")


def _probed(folder: Path, contract: dict[str, Any], console: Console) -> Check:
    """Whether the probes find again what the contract says, within their noise."""
    from kzoo.evaluate.tables import table
    from kzoo.evaluate.verdict import within_noise
    from kzoo.recipe.schema import Recipe
    from kzoo.runs.build import open_sources
    from kzoo.runs.kept import find_kept
    from kzoo.runs.pretrained import open_kept
    from kzoo.runs.report import probe

    told = contract.get("evaluation")
    if not told or not told["verdict"]:
        return Check("probe", "not proven", "the contract holds no evaluation")
    recipe = Recipe.model_validate_json(json.dumps(contract["recipe"]))
    try:
        train, test = open_sources(recipe)
    except KzooError as error:  # the data are not here
        return Check("probe", "not proven", short(error))
    if train.digest != contract["made_from"]["data"]:
        return Check("probe", "not proven", f"{train.name}: holds other examples here than it was trained on")
    found = probe(recipe, (train, test), open_kept(find_kept(folder)), console)[0][told["feature"]]
    console.print(table(found))
    other = [name for name in told["verdict"] if not within_noise(found["trained"], told["trained"], name)]
    if other:
        return Check("probe", "wrong", f"finds another accuracy than the contract says: {', '.join(other)}")
    return Check("probe", "proven", "finds the accuracy that the contract says, within noise")


def _table(checks: list[Check], title: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("check", no_wrap=True)
    table.add_column("is", no_wrap=True)
    table.add_column("largest error", justify="right", no_wrap=True)
    table.add_column("what was found")
    for check in checks:
        error = "" if check.error is None else f"{check.error:.1e}"
        colour = _COLOURS[check.verdict]
        table.add_row(check.name, f"[{colour}]{check.verdict}[/]", error, marked(check.found))
    return table
