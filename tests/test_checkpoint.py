"""Checkpoints as files: what is kept, what is noticed, and what a process that dies or a full disk leaves."""

import os
import random
import re
import resource
import shutil
import signal
import subprocess
import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from kzoo.errors import CheckpointError
from kzoo.runs import checkpoint
from kzoo.system.files import locked, remove_folder, sweep


class Weight:
    """As much of a variable as a checkpoint needs."""

    def __init__(self, value, dtype="float32", path="w"):
        self.value, self.dtype, self.path = np.array(value, dtype), dtype, path

    @property
    def shape(self):
        return self.value.shape

    def numpy(self):
        return self.value

    def assign(self, value):
        assert value.dtype == self.value.dtype
        self.value = np.array(value)


def save(folder, step, keep=2, **more):
    return checkpoint.save(
        folder, step, [Weight([step] * 8), Weight(step, "int64")], recipe_hash="r", keep=keep, **more
    )


def restored(folder):
    """The step that is restored, after comparing the values."""
    variables = [Weight([0] * 8), Weight(0, "int64")]
    found = checkpoint.restore(folder, variables, recipe_hash="r")
    assert variables[0].value.tolist() == [found.step] * 8
    assert variables[1].value == found.step
    return found.step


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# ---- what is kept ----------------------------------------------------------------------------------------------------


def test_every_type_comes_back_to_the_last_bit(tmp_path):
    values = {
        "float32": [1.1, -0.0, np.nan, np.inf],
        "float64": [1.1, 5e-324],
        "float16": [1.1],
        "bfloat16": [1.1, -3.0],
        "int64": 2**62 + 1,
        "int32": [[-1], [2]],
        "uint32": [2**32 - 1],
        "bool": [True, False],
    }
    dtypes = {name: ml_dtypes.bfloat16 if name == "bfloat16" else name for name in values}
    saved = [Weight(value, dtypes[name], name) for name, value in values.items()]
    for weight in saved:
        weight.dtype = weight.path
    checkpoint.save(tmp_path, 1, saved, recipe_hash="r")
    empty = [Weight(np.zeros_like(weight.value), weight.value.dtype) for weight in saved]
    for weight, old in zip(empty, saved, strict=True):
        weight.dtype = old.path
    checkpoint.restore(tmp_path, empty, recipe_hash="r")
    assert [weight.value.tobytes() for weight in empty] == [weight.value.tobytes() for weight in saved]


def test_what_it_was_made_with_and_the_callbacks_come_back(tmp_path):
    told = {"made_with": {"plugins": {"kzoo-x": "1"}}, "callbacks": {"Means": {"loss": 0.1 + 0.2, "none": None}}}
    save(tmp_path, 3, **told)
    found = checkpoint.newest(tmp_path)
    assert (found.step, found.recipe_hash, found.made_with, found.callbacks) == (3, "r", *told.values())
    assert found.variables == [["w", [8], "float32"], ["w", [], "int64"]]


def test_the_checksums_are_those_of_sha256sum(tmp_path):
    path = save(tmp_path, 1)
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=path, check=True, capture_output=True)


def test_equal_states_give_equal_files(tmp_path):
    first, second = (save(tmp_path / name, 1) / "state.npz" for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_the_newest_are_kept(tmp_path):
    for step in (1, 2, 3, 100_000_000):
        save(tmp_path, step)
    assert names(tmp_path) == ["step-00000003", "step-100000000"]
    assert restored(tmp_path) == 100_000_000


def test_a_checkpoint_that_is_there_already_is_not_touched(tmp_path):
    before = save(tmp_path, 1).stat().st_ino
    assert save(tmp_path, 1).stat().st_ino == before


def test_what_a_resumed_training_passed_over_does_not_count_as_kept(tmp_path):
    """Steps 4 and 5 are damaged; the training goes on from 3, keeping one: never the damaged ones alone."""
    for step in (3, 4, 5):
        save(tmp_path, step, keep=3)
    for step in (4, 5):
        (tmp_path / f"step-0000000{step}" / "state.npz").write_bytes(b"")
    save(tmp_path, 4, keep=1)
    assert names(tmp_path) == ["step-00000004"]
    assert restored(tmp_path) == 4


def test_other_recipes_and_other_variables_are_refused_before_anything_is_assigned(tmp_path):
    save(tmp_path, 1)
    sound = Weight([0] * 8)
    for variables, recipe_hash, problem in (
        ([sound, Weight(0, "int64")], "other", "made with another recipe"),
        ([sound], "r", "holds 2 variables, the method has 1"),
        ([sound, Weight([0, 0], "int64")], "r", r"holds w \[\[\], 'int64'\] where \['w', \[2\], 'int64'\] is due"),
        ([sound, Weight(0, "int32")], "r", r"holds w \[\[\], 'int64'\] where \['w', \[\], 'int32'\] is due"),
    ):
        with pytest.raises(CheckpointError, match=problem):
            checkpoint.restore(tmp_path, variables, recipe_hash=recipe_hash)
    assert not sound.value.any()


# ---- what is noticed -------------------------------------------------------------------------------------------------

FILES = ("state.npz", "manifest.json", "SHA256SUMS")


def damages():
    """What is done to the newest checkpoint, by title."""
    for name in FILES:
        for quarter in range(4):  # the first leaves nothing
            yield f"{name} cut after {quarter}/4", name, lambda data, q=quarter: data[: len(data) * q // 4]
    draw = random.Random(0)
    for number in range(50):
        place, bit = draw.random(), 1 << draw.randrange(8)
        name = FILES[number % 3]

        def flip(data, place=place, bit=bit):
            at = int(place * len(data))
            return data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]

        yield f"{name} bit {bit} at {place:.2f}", name, flip
    for text in (b"{}", b"null", b"[]", b"\xff\xfe"):
        yield f"manifest {text}", "manifest.json", lambda data, text=text: text
    yield "no sums", "SHA256SUMS", lambda data: None
    yield "no state", "state.npz", lambda data: None


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two") / "checkpoints"
    for step in (1, 2):
        save(folder, step, keep=2)
    return folder


@pytest.mark.parametrize(("name", "damage"), [pytest.param(*more, id=title) for title, *more in damages()])
def test_any_damage_is_noticed_and_the_one_before_is_used(two, tmp_path, name, damage):
    shutil.copytree(two, tmp_path / "c")
    file = tmp_path / "c" / "step-00000002" / name
    left = damage(file.read_bytes())
    file.unlink() if left is None else file.write_bytes(left)
    with pytest.warns(UserWarning, match=r"step-00000002: damaged checkpoint passed over") as warned:
        assert restored(tmp_path / "c") == 1
    assert len(warned) == 1


def test_sound_checkpoints_cause_no_warning(two):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert restored(two) == 2


def test_without_the_checksums_a_flipped_bit_would_pass(two, tmp_path, monkeypatch):
    shutil.copytree(two, tmp_path / "c")
    file = tmp_path / "c" / "step-00000002" / "manifest.json"
    file.write_bytes(file.read_bytes().replace(b'"step": 2', b'"step": 3'))
    sums = (file.parent / "SHA256SUMS").read_bytes()
    monkeypatch.setattr(checkpoint, "_sums", lambda folder: sums)
    assert checkpoint.newest(tmp_path / "c").step == 3


def test_where_all_are_damaged_nothing_starts_anew(tmp_path):
    (save(tmp_path, 1) / "state.npz").write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="step-00000001"),
        pytest.raises(CheckpointError, match="every checkpoint is damaged; restore one from a copy, or start anew"),
    ):
        checkpoint.newest(tmp_path)


def test_no_checkpoints_are_none_and_cannot_be_restored(tmp_path):
    (tmp_path / "step-notes").mkdir()
    assert checkpoint.newest(tmp_path) is None
    with pytest.raises(CheckpointError, match="no checkpoint to resume from"):
        restored(tmp_path)


# ---- what a process that dies leaves ---------------------------------------------------------------------------------


def dies_at(event, folder):
    """Save in a process that is killed before the n-th thing that the save does to the disk; whether it was."""
    process = os.fork()
    if process == 0:
        seen = 0

        def counted(function):
            def counting(*args, **kwargs):
                nonlocal seen
                if seen == event:
                    os.kill(os.getpid(), signal.SIGKILL)
                seen += 1
                return function(*args, **kwargs)

            return counting

        for owner, name in ((np.lib.format, "write_array"), (os, "fsync"), (os, "rename"), (shutil, "rmtree")):
            setattr(owner, name, counted(getattr(owner, name)))
        try:
            save(folder, 3)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL


def test_killed_anywhere_in_a_save_it_leaves_the_last_or_the_new_one(tmp_path):
    left = []
    for event in range(100):
        folder = tmp_path / str(event)
        for step in (1, 2):
            save(folder, step)
        if not dies_at(event, folder):
            break
        left.append(restored(folder))
        sweep(folder)
        assert [name for name in names(folder) if not re.fullmatch(r"step-\d{8}", name)] == []
        assert save(folder, 3).exists()
        assert names(folder) == ["step-00000002", "step-00000003"]
    # two arrays, three files, their folder, the rename; then the new one counts: the folder around it, scratch, two
    # events to delete an old one
    assert left == [2] * 7 + [3] * 4


def test_a_full_disk_loses_nothing(tmp_path):
    save(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            checkpoint.save(tmp_path, 2, [Weight(np.zeros(10_000))], recipe_hash="r")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert names(tmp_path) == ["step-00000001"]
    assert restored(tmp_path) == 1


def test_removing_a_folder_never_shows_half_of_it(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()

    def killed(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_folder(tmp_path / "a")
    assert not (tmp_path / "a").exists()
    assert len(names(tmp_path)) == 1
    sweep(tmp_path)
    assert names(tmp_path) == []


def test_only_one_process_holds_a_folder(tmp_path):
    def others_hold() -> bool:
        process = os.fork()
        if process == 0:
            with locked(tmp_path) as alone:
                os._exit(0 if alone else 3)
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 3

    with locked(tmp_path) as alone:
        assert alone
        assert others_hold()
    assert not others_hold()
    assert not list(Path(tmp_path).iterdir())
