"""Start several workers on this machine, to try out what TF_CONFIG, Slurm or Kubernetes start on many."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from types import FrameType

_GRACE = 60.0  # seconds in which the others may end by themselves after one has ended badly
_POLL = 0.2


def launch(workers: int, arguments: Sequence[str]) -> int:
    """Run `kzoo train ARGUMENTS` as so many workers of one training; returns the exit code of the training.

    The first worker is the chief: it alone writes, and what it prints is what is seen; the others speak on the error
    stream, a line at a time, when they have something to say. When one fails, the others are given a minute to notice
    and are then stopped. SIGTERM and SIGINT are passed on to all.
    """
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "kzoo", "train", *arguments, "--set", "train.strategy=multi_worker"],
            env={**os.environ, "TF_CONFIG": config},
            start_new_session=True,  # the terminal's Ctrl+C comes to the launcher, which passes it on once
        )
        for config in local_cluster(workers)
    ]

    def pass_on(number: int, frame: FrameType | None) -> None:
        for process in running:
            if process.poll() is None:
                process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return _wait(running)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait()


def local_cluster(workers: int) -> list[str]:
    """The TF_CONFIG of each of so many workers on this machine, on ports that are free now."""
    with ExitStack() as open_ones:  # all open at once, so that they differ
        sockets = [open_ones.enter_context(socket.socket()) for _ in range(workers)]
        for each in sockets:
            each.bind(("localhost", 0))
        cluster = {"worker": [f"localhost:{each.getsockname()[1]}" for each in sockets]}
    tasks = [{"type": "worker", "index": index} for index in range(workers)]
    return [json.dumps({"cluster": cluster, "task": task}) for task in tasks]


def _wait(running: list[subprocess.Popen]) -> int:
    """Until all have ended, or a minute after the first has ended badly. The first bad exit code, else 0."""
    failed, deadline = 0, float("inf")
    while any(process.poll() is None for process in running) and time.monotonic() < deadline:
        time.sleep(_POLL)
        if not failed and (failed := next((p.returncode for p in running if p.poll()), 0)):
            deadline = time.monotonic() + _GRACE
            index = next(i for i, p in enumerate(running) if p.returncode == failed)
            print(f"worker {index} of {len(running)} ended with exit code {_code(failed)}", file=sys.stderr)
    return _code(failed)


def _code(code: int) -> int:
    """A shell's exit code: 128 + the number of the signal that ended a process."""
    return 128 - code if code < 0 else code
