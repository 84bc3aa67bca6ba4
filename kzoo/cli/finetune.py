"""`kzoo finetune`. What it does is in `kzoo.use.finetune`."""

import shlex
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from kzoo.cli import complete
from kzoo.cli.door import Debug, NewRunFolder, Overrides, Resume, command, importing_tensorflow
from kzoo.system.console import make_console, tell

if TYPE_CHECKING:
    from kzoo.use.finetune import Wanted


class Scratch(StrEnum):
    """Whether the same network is trained from new weights too."""

    BESIDE = "beside"
    ONLY = "only"
    NO = "no"


@command
def finetune(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Folder of a run or an export, or a preset.")],
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="A dataset with labels: folder:PATH, digits, ...", autocompletion=complete.datasets
        ),
    ],
    head_only: Annotated[
        bool, typer.Option("--head-only", help="Train a linear head on the frozen backbone; else all of it learns.")
    ] = False,
    layer_decay: Annotated[
        float, typer.Option("--layer-decay", help="Below 1, as 0.7: layers near the input learn more slowly.")
    ] = 1.0,
    labels_per_class: Annotated[
        int | None, typer.Option("--labels-per-class", min=1, help="Labels of each class to learn from; else all.")
    ] = None,
    fraction: Annotated[
        float | None, typer.Option("--fraction", help="Share of the labels of each class to learn from; else all.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Updates; of 32 examples, by train.batch_size.")] = 300,
    scratch: Annotated[
        Scratch, typer.Option("--from-scratch", help="Train the same network from new weights: beside, only, or no.")
    ] = Scratch.BESIDE,
    overrides: Overrides = None,
    run_dir: NewRunFolder = None,
    resume: Resume = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and print the plan, no more.")] = False,
    debug: Debug = False,
) -> None:
    """Train a classifier from a trained backbone, beside the same network from scratch."""
    from kzoo.use import finetune as use

    wanted = use.Wanted(model, data, head_only, layer_decay, labels_per_class, fraction, steps)
    trainings = use.trainings(wanted, scratch.value, overrides or (), run_dir)
    console = make_console()
    if dry_run:
        from kzoo.runs import plan

        first, *others = trainings
        again = shlex.join(["kzoo", "finetune", *_call(wanted, scratch, overrides, str(run_dir) if run_dir else None)])
        plan.print_forecast(console, first.recipe, first.folder, again)
        for other in others:
            tell(console, f"beside it: the same from new weights, in {other.folder}")
        return
    with importing_tensorflow():
        from kzoo.train.loop import train

    for one in trainings:
        train(one.recipe, one.folder, resume and one.folder.exists(), console)
    use.tell(console, trainings)


def _call(wanted: "Wanted", scratch: Scratch, overrides: list[str] | None, run_dir: str | None) -> list[str]:
    """What the command was called with, as arguments again."""
    call = [wanted.model, wanted.data, *(["--head-only"] if wanted.head_only else [])]
    given = [
        ("--layer-decay", wanted.layer_decay, 1.0),
        ("--labels-per-class", wanted.labels_per_class, None),
        ("--fraction", wanted.fraction, None),
        ("--steps", wanted.steps, 300),
        ("--from-scratch", scratch.value, Scratch.BESIDE.value),
        ("--run-dir", run_dir, None),
    ]
    call += [str(word) for option, value, default in given if value != default for word in (option, value)]
    return call + [word for override in overrides or () for word in ("--set", override)]
