"""Reads a format again and compares what it returns with what was recorded: a script for a process of its own.

    python clean.py '{"module": ..., "function": ..., "file": ..., "recorded": ..., "inputs": [...], "blocked": [...]}'

It imports nothing of kzoo, and blocks what the format must do without. It prints the largest relative error as JSON.
"""

import json
import runpy
import sys

import numpy as np


def main(task: dict) -> float:
    """The largest difference of an output from what was recorded, for batches of one and of all, as a share of the
    largest value recorded for that example. NaN and infinite where a value is none, or a shape is another.
    """
    sys.modules.update(dict.fromkeys(task["blocked"]))  # importing what is None fails
    read = runpy.run_path(task["module"])[task["function"]](task["file"])
    with np.load(task["recorded"], allow_pickle=False) as file:
        recorded = {name: file[name] for name in file.files}
    inputs = {name: recorded[name] for name in task["inputs"]}
    outputs = {name: value for name, value in recorded.items() if name not in inputs}
    count = len(next(iter(inputs.values())))
    worst = 0.0
    for size in (1, count):
        received = read({name: value[:size] for name, value in inputs.items()})
        for name, value in outputs.items():
            error = relative_error(received[name], value[:size])
            worst = error if not error <= worst else worst  # also for NaN, which then stays
    return worst


def relative_error(received: np.ndarray, right: np.ndarray) -> float:
    """The largest difference of an example as a share of its largest value; infinite where the shapes differ."""
    if received.shape != right.shape:
        return float("inf")
    received, right = (np.asarray(value, np.float64).reshape(len(value), -1) for value in (received, right))
    difference, largest = np.abs(received - right).max(1), np.abs(right).max(1)
    return float(np.max(np.where(difference == 0, 0.0, difference / np.maximum(largest, np.finfo(np.float64).tiny))))


if __name__ == "__main__":
    print(json.dumps({"largest_error": main(json.loads(sys.argv[1]))}))
