"""The commands on what is trained: `embed`, `compare`, `similar`, `finetune`. Their bodies are in `kzoo.use`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from kzoo.cli.door import AsJson, Debug, command, importing_tensorflow
from kzoo.system.console import make_console, marked, say

TrainedFolder = Annotated[
    Path, typer.Argument(metavar="RUN", help="Folder of a run or of an export.", exists=True, file_okay=False)
]


@command
def embed(
    place: TrainedFolder,
    data: Annotated[str, typer.Argument(metavar="DATA", help="A dataset: digits, folder:PATH, ...; `kzoo list`.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Ends in .npz, .csv or .parquet.")],
    splits: Annotated[list[str] | None, typer.Option("--split", help="May be repeated; all where left out.")] = None,
    options: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of the dataset.")
    ] = None,
    feature: Annotated[str, typer.Option("--feature", help="An output of the backbone.")] = "embedding",
    debug: Debug = False,
) -> None:
    """Write the embedding of every example of a dataset, or file of a folder."""
    from kzoo.use import call, table

    table.check_format(out)
    chosen = call.dataset_options(data, options or ())
    with importing_tensorflow():
        from kzoo.use.embed import Wanted, embed_data

    console = make_console()
    found = embed_data(place, Wanted(data, tuple(splits or ()), chosen, feature), out, console)
    console.print(f"{len(found):,} embeddings of width {found.vectors.shape[1]} are in [bold]{marked(out)}[/bold]")


@command
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE", help="Draw them into this PNG file.")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show the evaluations of runs beside each other, each with its untrained backbone."""
    from kzoo.use import compare as beside

    found = beside.gather(runs)
    console = make_console(stderr=as_json)
    if as_json:
        say(json.dumps(found, indent=2))
    else:
        console.print(beside.table(found))
    for line in found["differs"]:
        console.print(line, style="yellow", markup=False)
    if picture:
        beside.draw(picture, found)
        console.print(f"drawn: [bold]{marked(picture)}[/bold]")
