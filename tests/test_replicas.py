"""One replica, two and four, on the same global batch: the same losses, the same weights, equal copies everywhere.

Each count of replicas gets a process of its own, which trains every registered method and, as a negative control, one
that forgets to divide by the number of replicas and one that feeds its teacher from its own part of the batch.
"""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kzoo import registry

COUNTS = (1, 2, 4)
TOLERANCE = 1e-5
# what a test-sized run needs to say; every other method trains with its defaults
OPTIONS = {
    "simclr": {"projector": (32, 16)},
    "moco_v1": {"queue": 64, "groups": 4},
    "moco_v2": {"queue": 64, "groups": 4, "projector": (32, 16)},
}


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traces")
    for count in COUNTS:
        done = subprocess.run(
            [
                sys.executable,
                str(Path(__file__).with_name("replica_worker.py")),
                str(count),
                str(folder / f"{count}.pickle"),
            ],
            input=pickle.dumps({spec.name: OPTIONS.get(spec.name, {}) for spec in registry.methods()}),
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr.decode()[-3000:]
    traces = {count: pickle.loads((folder / f"{count}.pickle").read_bytes()) for count in COUNTS}
    for name, one in traces[1].items():
        print(
            f"{name}: "
            + ", ".join(f"{count} replicas differ by {traces[count][name].distance(one):.2g}" for count in COUNTS[1:])
        )
    return traces


@pytest.mark.parametrize("count", COUNTS[1:])
@pytest.mark.parametrize("name", [spec.name for spec in registry.methods()])
def test_replicas_train_like_one(traces, name, count):
    one, several = traces[1][name], traces[count][name]
    assert np.ptp(one.losses) > 1e-3  # it did train
    assert several.distance(one) < TOLERANCE
    assert several.spread == 0.0


@pytest.mark.parametrize("count", COUNTS[1:])
def test_a_naive_mean_is_caught(traces, count):
    assert traces[count]["naive mean"].distance(traces[1]["naive mean"]) > 100 * TOLERANCE


@pytest.mark.parametrize("count", COUNTS[1:])
def test_a_queue_of_each_replicas_own_keys_is_caught(traces, count):
    assert traces[count]["own queue"].distance(traces[1]["own queue"]) > 100 * TOLERANCE
    assert traces[count]["own queue"].spread > 0
