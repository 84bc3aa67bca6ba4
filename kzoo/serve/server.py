"""`kzoo serve`: the service in a process of its own, and what it says of itself at its start."""

import base64
import ipaddress
import json
import shlex
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn
from rich.console import Console
from rich.table import Table

from kzoo.errors import ServeError
from kzoo.serve.app import Limits, create_app
from kzoo.serve.model import DEFAULT, Model
from kzoo.serve.sample import sample
from kzoo.serve.versions import Versions
from kzoo.system.console import marked

_LONGEST = 600  # characters of a line to copy
_TURN = 0.001  # seconds: requests get their turns while a version is loaded, which is much Python
_IDLE = 75  # seconds that a connection is kept for the next request


def serve(export: Path, host: str, port: int, limits: Limits, console: Console) -> None:
    """Serve an export until a signal says to stop; what has begun is finished first.

    port: 0 takes a free one. Raises ServeError where the export cannot be served, or the port is taken.
    """
    versions = Versions(export, report=lambda line: console.print(line, markup=False))
    listening = _listen(host, port)
    config = uvicorn.Config(
        create_app(versions, limits),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=_IDLE,
        timeout_graceful_shutdown=int(limits.timeout) + 1,
    )
    address, taken = listening.getsockname()[:2]
    introduce(console, versions, f"http://{f'[{address}]' if ':' in address else address}:{taken}")
    if not ipaddress.ip_address(address).is_loopback:
        console.print("\nAnyone who reaches this address may call it: it asks for no password.", style="yellow")
    sys.setswitchinterval(_TURN)
    with listening:
        uvicorn.Server(config).run([listening])


def introduce(console: Console, versions: Versions, root: str) -> None:
    """Say what is served, where, and a call that works."""
    model, place = versions.current, versions.place
    more = "" if place.pinned else "; a newer one there takes its place"
    console.print(f"[bold]{marked(place.name)}[/bold], version {model.version} of {marked(place.folder)}{more}\n")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("signature", "takes", "returns"):
        table.add_column(column)
    for name in sorted(model.inputs, key=lambda name: (name != DEFAULT, name)):
        table.add_row(name, _listed(model.inputs[name]), _listed(model.outputs[name]))
    console.print(table)
    console.print()
    routes = Table.grid(padding=(0, 2))
    routes.add_row("TF Serving", f"{root}/v1/models/{place.name}:predict")
    routes.add_row("Open Inference", f"{root}/v2/models/{place.name}/infer")
    routes.add_row("Prometheus", f"{root}/metrics")
    console.print(routes)
    console.print("\nTry it:")
    console.print(example(model, f"{root}/v1/models/{place.name}"), soft_wrap=True, markup=False)


def example(model: Model, url: str) -> str:
    """A line of curl that the model answers, as it stands."""
    for signature in sorted(model.inputs, key=lambda name: name != "serve_bytes"):
        inputs = model.inputs[signature]
        if len(inputs) == 1 and (found := sample(inputs, model.inputs[DEFAULT])):
            [array] = found.values()
            rows = [
                {"b64": base64.b64encode(one).decode()} if isinstance(one, bytes) else one for one in array.tolist()
            ]
            line = f"curl -d {shlex.quote(json.dumps({'signature_name': signature, 'instances': rows}))} {url}:predict"
            if len(line) <= _LONGEST:
                return line
    return f"curl {url}/metadata"


def _listed(tensors: Any) -> str:
    return "\n".join(f"{name}: {tensor}" for name, tensor in tensors.items())


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]  # Python adds the address
        raise ServeError(f"{host}:{port}: {reason}; choose another --host or --port") from None
