"""Signals that end a process, heard without ending it: what is running is saved first."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

# what a terminal that closes, a scheduler and the keyboard send
_STOPPING = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)


@contextmanager
def heard_signals(console: Console) -> Iterator[Callable[[], int | None]]:
    """Within the block SIGHUP, SIGTERM and SIGINT do not end the process; the function it gives returns the first.

    The second ends the process at once, with exit code 128 + its number. What the process was started to ignore, as
    `nohup` does with SIGHUP, it ignores. A thread hears them: Python's own handlers would have to wait for the step
    that TensorFlow is at.
    """
    if threading.current_thread() is not threading.main_thread():  # only that one may say what signals do
        yield lambda: None
        return
    heard: list[int] = []
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    terminals = [stream for stream in (1, 2) if os.isatty(stream)]

    def hear() -> None:
        while number := os.read(reader, 1):
            if heard:
                os._exit(128 + number[0])
            heard.append(number[0])
            if number[0] == signal.SIGHUP:  # whoever writes to a terminal that is gone fails, before it has saved
                nowhere = os.open(os.devnull, os.O_WRONLY)
                for stream in terminals:
                    os.dup2(nowhere, stream)
                os.close(nowhere)
            name = signal.Signals(number[0]).name
            console.print(f"{name}: stopping after this step, once it is saved; again to stop at once")

    listener = threading.Thread(target=hear, daemon=True)
    before = {number: signal.getsignal(number) for number in _STOPPING}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    wakeup = signal.set_wakeup_fd(writer)
    listener.start()
    try:
        yield lambda: heard[0] if heard else None
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writer)
        listener.join()
        os.close(reader)
