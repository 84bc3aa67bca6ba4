"""The commands on what is trained. Their bodies are in `kzoo.use`."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from kzoo.cli import complete
from kzoo.cli.door import AsJson, Debug, command, importing_tensorflow
from kzoo.errors import ServeError
from kzoo.system.console import make_console, marked, say

Trained = Annotated[str, typer.Argument(metavar="MODEL", help="Folder of a run or an export, or a preset.")]


@command
def embed(
    place: Trained,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="A dataset: digits, folder:PATH, ...; `kzoo list`.", autocompletion=complete.datasets
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Ends in .npz, .csv or .parquet.")],
    splits: Annotated[list[str] | None, typer.Option("--split", help="May be repeated; all where left out.")] = None,
    options: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of the dataset.")
    ] = None,
    feature: Annotated[str, typer.Option("--feature", help="An output of the backbone.")] = "embedding",
    debug: Debug = False,
) -> None:
    """Write the embedding of every example of a dataset, or file of a folder."""
    from kzoo.runs.kept import find_kept
    from kzoo.use import call, table

    table.check_format(out)
    chosen = call.dataset_options(data, options or ())
    find_kept(place)  # a wrong name is told at once
    with importing_tensorflow():
        from kzoo.use.embed import Wanted, embed_data

    console = make_console()
    found = embed_data(place, Wanted(data, tuple(splits or ()), chosen, feature), out, console)
    console.print(f"{len(found):,} embeddings of width {found.vectors.shape[1]} are in [bold]{marked(out)}[/bold]")


@command
def pack(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    into: Annotated[
        Path, typer.Option("--into", metavar="DIR", help="Where to write, or a package of presets that gains one.")
    ] = Path(),
    name: Annotated[str, typer.Option("--name", help="backbone.tag; backbone.method_data where left out.")] = "",
    licence: Annotated[str, typer.Option("--licence", help="Of the weights, for example Apache-2.0.")] = "",
    debug: Debug = False,
) -> None:
    """Make a package of a run, which brings its backbone as a preset."""
    from kzoo.use.call import require_run

    require_run(run)
    with importing_tensorflow():
        from kzoo.use.pack import pack_run

    found, console = pack_run(run, into, name, licence), make_console()
    size = f"{found.spec.size / 1e6:.1f} MB"
    console.print(f"[bold]{marked(found.distribution)}[/bold] holds the preset '{found.spec.name}', {size}. Next:")
    console.print(f"  pip install --editable {marked(found.distribution)}" if found.new else "  install it again")
    console.print(f"  kzoo show {found.spec.name}\n  kzoo check {found.spec.name}")
    if not licence:
        console.print("no licence of the weights is given; --licence Apache-2.0 gives one", style="yellow")


@command
def verify(
    place: Annotated[Path, typer.Argument(metavar="EXPORT", help="Folder of an export.")],
    probe: Annotated[
        bool, typer.Option("--probe", help="Probe it again too, beside the untrained one; needs the data.")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Prove that an export is what was written, and returns what was recorded."""
    from kzoo.use.call import require_export

    require_export(place)
    with importing_tensorflow():
        from kzoo.use import verify as proof

    found = proof.verify(place, make_console(stderr=as_json), probe=probe)
    if as_json:
        say(json.dumps(found, indent=2))


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


@command
def similar(
    embeddings: Annotated[Path, typer.Argument(metavar="FILE", help="What `kzoo embed` wrote.")],
    of: Annotated[
        list[str] | None, typer.Option("--of", metavar="NAME", help="Its neighbours; near-duplicates where left out.")
    ] = None,
    count: Annotated[int, typer.Option("--nearest", min=1, help="Neighbours of each --of.")] = 8,
    above: Annotated[float, typer.Option("--above", min=-1, max=1, help="Similarity of near-duplicates.")] = 0.98,
    sheet: Annotated[Path | None, typer.Option("--sheet", metavar="FILE", help="Draw them into this PNG file.")] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Find near-duplicates among embeddings, or the nearest neighbours of a file."""
    from kzoo.use import index, table
    from kzoo.use import similar as search

    found, console = table.read(embeddings), make_console(stderr=as_json)
    if of:
        answers, heading = search.nearest(found, of, count), "Nearest neighbours"
    else:
        if len(found) > index.LARGE and not index.available():
            console.print(f'{len(found):,} are compared one by one; pip install "kzoo[index]" makes that fast')
        answers, heading = search.near_duplicates(found, above), f"Near-duplicates: similarity {above:g} and more"
    if as_json:
        say(json.dumps(search.as_json(answers), indent=2))
    elif answers:
        console.print(search.table(answers, heading))
    else:
        console.print(f"none of {len(found):,} has a similarity of {above:g} or more to another; try a lower --above")
    if sheet and answers:
        search.draw(sheet, answers, found, heading)
        console.print(f"drawn: [bold]{marked(sheet)}[/bold]")


@command
def serve(
    export: Annotated[Path, typer.Argument(metavar="EXPORT", help="Folder of an export, or of one version of it.")],
    host: Annotated[str, typer.Option("--host", help="By default only this machine can call.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8501,
    max_bytes: Annotated[int, typer.Option("--max-bytes", min=1, help="Of a request.")] = 32 * 2**20,
    timeout: Annotated[float, typer.Option("--timeout", min=0.001, help="Seconds for a request.")] = 30.0,
    debug: Debug = False,
) -> None:
    """Serve an export over HTTP: TF Serving's interface and the Open Inference Protocol."""
    from kzoo.use.call import require_export

    require_export(export)
    if lacking := [name for name in ("fastapi", "uvicorn", "orjson", "prometheus_client") if not find_spec(name)]:
        raise ServeError(f"{', '.join(lacking)}: not installed; pip install 'kzoo[serve]'")
    with importing_tensorflow():
        from kzoo.serve.app import Limits
        from kzoo.serve.server import serve as run

    run(export, host, port, Limits(max_bytes, timeout), make_console())
