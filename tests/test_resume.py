"""A training that stopped and went on equals, to the last bit, the one that never stopped."""

import csv
import errno
import json
import os
import pty
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from kzoo import replicas
from kzoo.base.epochs import EpochMeans
from kzoo.data import array_source
from kzoo.distribute.devices import make_strategy
from kzoo.errors import CheckpointError, Interrupted, TrainingError
from kzoo.plugins.registry import find_method
from kzoo.plugins.targets import resolve
from kzoo.random import fold_in, uniform
from kzoo.recipe.load import load
from kzoo.runs import checkpoint
from kzoo.system.files import locked
from kzoo.system.signals import heard_signals
from kzoo.testing.replicas import build_in_float64
from kzoo.testing.tiny import tiny_backbone
from kzoo.train import loop as train
from kzoo.train.callbacks import SaveCheckpoints
from kzoo.train.guards import writing

ROOT = Path(__file__).parents[1]
BATCH, STEPS, EPOCHS = 8, 5, 3
TOTAL = STEPS * EPOCHS


class Marked(resolve(find_method("moco_v2"))):
    """MoCo v2 that keeps account of the beginnings of its epochs, in a variable."""

    def build_heads(self):
        super().build_heads()
        self.begun = self.add_weight(name="begun", shape=(EPOCHS,), initializer="zeros", trainable=False)

    @staticmethod
    def pretext(batch, seed, options):
        image = tf.cast(batch["image"], tf.float32) / 255.0  # few operations, so that tests do not wait for tracing
        return {name: image * uniform(fold_in(seed, name), (1, 1, 1), 0.5) for name in ("query", "key")}

    def begin_epoch(self, epoch):
        self.begun.assign_add(np.eye(EPOCHS)[epoch])


class Recorder(keras.callbacks.Callback):
    """What a callback is told; and stops the training after a step, or saves it there."""

    def __init__(self):
        super().__init__()
        self.begun, self.steps, self.rows = [], [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.begun.append(epoch)

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append((batch, float(logs["loss"]).hex()))

    def on_epoch_end(self, epoch, logs=None):
        self.rows.append((epoch, logs["loss"].hex(), logs["accuracy"].hex()))


class Saver(keras.callbacks.Callback):
    """Saves the training after the given steps."""

    def __init__(self, folder, after, means):
        super().__init__()
        self.folder, self.after, self.means, self.step = folder, after, means, 0

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if self.step in self.after and self.step % STEPS:
            self.save()

    def on_epoch_end(self, epoch, logs=None):
        if self.step in self.after:
            self.save()

    def save(self):
        variables, callbacks = checkpoint.state(self.model), {"means": self.means.get_state()}
        path = self.folder / str(self.step)
        checkpoint.save(path, self.step, variables, recipe_hash="", callbacks=json.loads(json.dumps(callbacks)))


class Restored(keras.callbacks.Callback):
    def __init__(self, means, state):
        super().__init__()
        self.means, self.state = means, state

    def on_train_begin(self, logs=None):
        self.means.set_state(self.state)


def snapshot(method):
    return {f"{number} {v.path}": np.array(v).tobytes() for number, v in enumerate(checkpoint.state(method))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training of 3 epochs of 5 steps, saved at its beginning, within epochs, at their ends and after the last."""
    folder = tmp_path_factory.mktemp("whole")
    keras.utils.set_random_seed(0)
    image = x = keras.Input((16, 16, 3))
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(keras.layers.Conv2D(8, 3, strides=2)(x)))
    x = keras.layers.Dropout(0.5)(keras.layers.GlobalAveragePooling2D()(x))
    backbone = keras.Model(image, {"embedding": keras.layers.Dense(8)(x)})
    method = Marked(backbone, queue=2 * BATCH, groups=2, projector=(8,), momentum=0.5)
    method.compile(keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.05, TOTAL), momentum=0.9))
    source = array_source("images", np.random.default_rng(0).integers(0, 256, (43, 16, 16, 3)).astype("uint8"))
    checkpoint.save(
        folder / "0", 0, checkpoint.state(method), recipe_hash="", callbacks={"means": EpochMeans().get_state()}
    )
    means, recorder = EpochMeans(), Recorder()
    method.fit(
        source,
        batch_size=BATCH,
        seed=4,
        epochs=EPOCHS,
        verbose=0,
        callbacks=[means, recorder, Saver(folder, {2, 5, 7, 14, 15}, means)],
    )
    return SimpleNamespace(folder=folder, method=method, source=source, told=recorder, end=snapshot(method))


def go_on(whole, step, forget=None, means_too=True):
    """Train from a checkpoint to the end with a method that held other values; returns what was told and the end.

    forget: leave the variables whose path matches as the training began with them.
    """
    for variable in checkpoint.state(whole.method):
        variable.assign(np.ones(variable.shape, np.array(variable).dtype))
    variables = checkpoint.state(whole.method)
    checkpoint.restore(whole.folder / "0", variables, recipe_hash="")
    began = [np.array(variable) for variable in variables]
    found = checkpoint.restore(whole.folder / str(step), variables, recipe_hash="")
    if forget:
        forgotten = [(v, old) for v, old in zip(variables, began, strict=True) if re.search(forget, v.path)]
        assert forgotten
        for variable, old in forgotten:
            variable.assign(old)
    means, recorder = EpochMeans(), Recorder()
    restored = [Restored(means, found.callbacks["means"])] if means_too else []
    whole.method.fit(
        whole.source,
        batch_size=BATCH,
        seed=4,
        epochs=EPOCHS,
        start_step=step,
        verbose=0,
        callbacks=[means, recorder, *restored],
    )
    return recorder, snapshot(whole.method)


@pytest.mark.parametrize("step", [0, 2, 5, 14, 15])
def test_it_goes_on_as_if_it_had_never_stopped(whole, step):
    """At the beginning, within an epoch, at the end of one, before its last step, and after the end."""
    told, end = go_on(whole, step)
    assert told.steps == whole.told.steps[step:]
    assert told.rows == whole.told.rows[step // STEPS :]
    assert end == whole.end


def test_epochs_begin_once_for_the_method_and_for_callbacks_with_a_state(whole):
    told, _ = go_on(whole, 7)
    assert np.array(whole.method.begun).tolist() == [1, 1, 1]
    assert told.begun == [1, 2]  # this one has no state: for it the epoch begins


@pytest.mark.parametrize(
    "forgotten",
    ["seed_generator", "^queue/keys", "^queue/pointer", "^dense_0/", "momentum", "iteration"],
)
def test_forgetting_any_part_of_the_state_shows(whole, forgotten):
    _, end = go_on(whole, 7, forget=forgotten)
    assert end != whole.end


def test_forgetting_the_figures_of_the_epoch_shows(whole):
    """The means of the second epoch are then those of its last three steps."""
    told, end = go_on(whole, 7, means_too=False)
    assert end == whole.end
    assert told.rows[0] != whole.told.rows[1]
    losses = [float.fromhex(loss) for _, loss in whole.told.steps]
    assert float.fromhex(told.rows[0][1]) == pytest.approx(sum(losses[7:10]) / 3)
    assert float.fromhex(whole.told.rows[1][1]) == pytest.approx(sum(losses[5:10]) / 5)


# ---- on another number of replicas -----------------------------------------------------------------------------------


class Counting(Marked):
    """Counts, in a variable, how often it was shown each example."""

    def build_heads(self):
        super().build_heads()
        self.seen = self.add_weight(name="seen", shape=(BATCH * STEPS,), dtype="int64", trainable=False)

    def train_step(self, batch):
        ids = replicas.gather(batch["id"])
        replicas.local(self.seen).scatter_add(tf.IndexedSlices(tf.ones_like(ids), ids))
        return super().train_step(batch)


def counting(count):
    """On so many replicas, in float64, as rounding differs with their number."""

    def build():
        return Counting(tiny_backbone((16, 16, 3)), queue=2 * BATCH, groups=2, projector=(8,))

    strategy = make_strategy("mirrored" if count > 1 else "single", count, BATCH)
    # resuming must not depend on how the weights began
    return build_in_float64(build, strategy, lambda: keras.optimizers.SGD(0.01, momentum=0.9), seed=count)


def test_another_number_of_replicas_repeats_and_misses_no_example(tmp_path):
    """Trained to the middle of an epoch on some, and from there to its end on others."""
    images = np.random.default_rng(0).integers(0, 256, (BATCH * STEPS, 16, 16, 3)).astype("uint8")
    source, halfway = array_source("images", images), 2
    methods = {count: counting(count) for count in (1, 2)}

    def restore(method, path):
        checkpoint.restore(path, checkpoint.state(method), recipe_hash="")

    def train_in_two(before, after):
        first, second = methods[before], methods[after]
        folder, losses = tmp_path / f"{before} to {after}", []
        log = keras.callbacks.LambdaCallback(on_train_batch_end=lambda _, logs: losses.append(float(logs["loss"])))
        restore(first, tmp_path / "begin")
        stream = first.stream(source, batch_size=BATCH, seed=1)
        first.fit_batches(stream, steps_per_epoch=halfway, verbose=0, callbacks=[log])  # an epoch that a signal stops
        checkpoint.save(folder, halfway, checkpoint.state(first), recipe_hash="")
        restore(second, folder)
        second.fit(source, batch_size=BATCH, seed=1, start_step=halfway, verbose=0, callbacks=[log])
        copies = second.distribute_strategy.experimental_local_results(second.seen.value)
        return losses, [copy.numpy().tolist() for copy in copies]

    checkpoint.save(tmp_path / "begin", 0, checkpoint.state(methods[1]), recipe_hash="")
    found = {case: train_in_two(*case) for case in ((1, 1), (1, 2), (2, 1))}
    for (_, after), (losses, seen) in found.items():
        assert seen == [[1] * len(images)] * after
        assert losses == pytest.approx(found[1, 1][0], rel=1e-6)


# ---- whole runs ------------------------------------------------------------------------------------------------------

SMALL = (
    "data.options.limit=100",
    "backbone.name=convnet4",
    "method={name: moco_v2, options: {queue: 64, groups: 2, projector: [8]}}",
    "train={epochs: 2, batch_size: 16, checkpoint: {every_steps: 4}}",
    "evaluate={knn: null, linear: null, low_shot: null}",
    "export.formats=[]",
)


class Witness(keras.callbacks.Callback):
    """A plugin's callback: its state is the sum of the losses. Does something after a step of the training."""

    def __init__(self, at=0, act=None):
        super().__init__()
        self.at, self.act, self.sum, self.losses = at, act, 0.0, []

    def get_state(self):
        return {"sum": self.sum}

    def set_state(self, state):
        self.sum = state["sum"]

    def on_train_batch_end(self, batch, logs=None):
        self.sum += float(logs["loss"])
        self.losses.append(float(logs["loss"]).hex())
        if int(self.model.optimizer.iterations) == self.at:
            self.act()


@pytest.fixture(scope="module")
def cheap():
    """Runs end with the training; what follows it is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        for after in ("picture_training", "pretext_figures", "evaluate_run"):
            patch.setattr(train, after, lambda *_: None)
        yield patch


def run(patch, folder, *overrides, witness=None, **how):
    """Train, or resume; returns what was said."""
    out, witness = StringIO(), witness or Witness()
    plugins = SimpleNamespace(callbacks=lambda recipe, run_dir, worker: ([witness], []))
    patch.setattr(train, "load_plugins", lambda: plugins)
    recipe = load(ROOT / "recipes" / "quickstart.yaml", [*SMALL, *overrides])
    train.train(recipe, folder, console=Console(file=out, width=200), **{"resume": True, **how})
    return out.getvalue()


@pytest.fixture(scope="module")
def finished(cheap, tmp_path_factory):
    """A run of 2 epochs of 6 steps, with what it said and its witness."""
    folder, witness = tmp_path_factory.mktemp("runs") / "whole", Witness()
    return SimpleNamespace(folder=folder, said=run(cheap, folder, witness=witness), witness=witness)


def final_state(folder):
    return (folder / "checkpoints" / "step-00000012" / "state.npz").read_bytes()


def rows(folder):
    with (folder / "logs" / "metrics.csv").open() as file:
        return [{key: row[key] for key in row if "images_per_second" not in key} for row in csv.DictReader(file)]


def copy(finished, tmp_path):
    return Path(shutil.copytree(finished.folder, tmp_path / "copy"))


def test_resuming_what_has_not_begun_begins_and_says_so(finished):
    assert "no checkpoint yet; training starts at its beginning" in finished.said
    names = sorted(path.name for path in (finished.folder / "checkpoints").iterdir())
    assert names == ["step-00000008", "step-00000012"]  # the newest two of 0, 4, 6, 8, 12


def test_a_signal_stops_it_once_it_is_saved_and_it_goes_on_exactly(cheap, finished, tmp_path):
    witness = Witness(at=3, act=lambda: (os.kill(os.getpid(), signal.SIGTERM), time.sleep(0.5)))
    with pytest.raises(
        Interrupted, match=r"stopped by SIGTERM after step 3, which is saved; go on with --resume"
    ) as error:
        run(cheap, tmp_path / "run", witness=witness)
    assert error.value.exit_code == 143
    again = Witness()
    said = run(cheap, tmp_path / "run", witness=again)
    assert re.search(r"resumed from \S+step-00000003", said)
    assert witness.losses + again.losses == finished.witness.losses
    assert again.sum == finished.witness.sum
    assert final_state(tmp_path / "run") == final_state(finished.folder)
    assert rows(tmp_path / "run") == rows(finished.folder)
    assert len(rows(tmp_path / "run")) == 2
    assert not list((tmp_path / "run").rglob(".*"))
    record = json.loads((tmp_path / "run" / "kzoo.json").read_text())
    assert [entry["step"] for entry in record["resumed"]] == [3]


def test_more_epochs_go_on_with_another_schedule_and_say_so(cheap, finished, tmp_path):
    folder = copy(finished, tmp_path)
    said = run(cheap, folder, "train.epochs=3")
    assert "train.epochs: 3, was 2: the cosine schedule of the learning rate" in said
    assert "step-00000018" in [path.name for path in (folder / "checkpoints").iterdir()]
    assert [row["epoch"] for row in rows(folder)] == ["0", "1", "2"]
    assert rows(folder)[:2] == rows(finished.folder)


def test_a_changed_recipe_is_refused_by_key(cheap, finished):
    with pytest.raises(CheckpointError) as error:
        run(cheap, finished.folder, "optimizer.momentum=0.5", "method.options.temperature=0.1", "train.epochs=5")
    assert "(method.options.temperature: 0.1, was 0.2; optimizer.momentum: 0.5, was 0.9)" in str(error.value)


def forge(folder, **made_with):
    """Rewrite what the newest checkpoint says it was made with."""
    path = sorted((folder / "checkpoints").iterdir())[-1]
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["made_with"] |= made_with
    (path / "manifest.json").write_text(json.dumps(manifest))
    (path / "SHA256SUMS").write_bytes(checkpoint._sums(path))


def test_other_plugins_are_refused_unless_allowed(cheap, finished, tmp_path):
    folder = copy(finished, tmp_path)
    forge(folder, plugins={"kzoo-contrastive": "0.0.1", "kzoo-gone": "3"})
    changed = r"kzoo-contrastive \S+, was 0.0.1; kzoo-gone is not installed, was 3"
    with pytest.raises(CheckpointError, match=rf"plugins have changed since \({changed}\).*add --allow-plugin-change"):
        run(cheap, folder)
    said = run(cheap, folder, allow_plugin_change=True)
    assert re.search(rf"changed since this run was saved: {changed}", said)
    assert final_state(folder) == final_state(finished.folder)  # it had ended: nothing is trained again


def test_other_data_other_versions_no_checkpoints_and_company_are_noticed(cheap, finished, tmp_path):
    folder = copy(finished, tmp_path)
    with locked(folder), pytest.raises(CheckpointError, match="another process is training this run"):
        run(cheap, folder)
    forge(folder, examples=99)
    with pytest.raises(CheckpointError, match="digits: has 100 examples, had 99 when"):
        run(cheap, folder)
    forge(folder, examples=100, versions={"tensorflow": "1.15"})
    assert re.search(r"changed since this run was saved: tensorflow \S+, was 1.15", run(cheap, folder))
    for path in (folder / "checkpoints").iterdir():
        (path / "state.npz").write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(CheckpointError, match="every checkpoint is damaged"),
    ):
        run(cheap, folder)
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(CheckpointError, match="no checkpoint is left of this run"):
        run(cheap, folder)


def test_weights_that_are_not_finite_are_not_saved(whole, tmp_path):
    kernel = whole.method.trainable_variables[0]
    before = np.array(kernel)
    kernel.assign(np.full(kernel.shape, np.inf))
    recipe = load(ROOT / "recipes" / "quickstart.yaml", SMALL)
    saver = SaveCheckpoints(train.Run(tmp_path), recipe, whole.source, STEPS, None, [], lambda: None)
    saver.set_model(whole.method)
    with pytest.raises(TrainingError, match=rf"{kernel.path} is not finite after step 0, learning rate"):
        saver.on_train_begin()
    assert not list(tmp_path.iterdir())
    kernel.assign(before)
    saver.on_train_begin()
    assert (tmp_path / "checkpoints" / "step-00000000").exists()


def test_a_loss_that_is_not_a_number_stops_at_its_step_and_spoils_no_checkpoint(cheap, tmp_path):
    witness = Witness(at=5)
    witness.act = lambda: [kernel.assign(kernel * np.nan) for kernel in witness.model.trainable_variables[:1]]
    with pytest.raises(TrainingError, match=r"moco_v2: the loss is nan at step 6, learning rate 0\.\d+; lower"):
        run(cheap, tmp_path / "run", witness=witness)
    sound = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert sound.step == 4
    with np.load(sound.path / "state.npz") as stored:
        assert all(np.isfinite(stored[name]).all() for name in stored)


@pytest.mark.parametrize(
    ("problem", "remedy"),
    [(errno.ENOSPC, "make room there"), (errno.EROFS, "make it accessible"), (errno.EACCES, "make it accessible")],
)
def test_a_full_disk_and_a_read_only_folder_are_told_in_one_line(tmp_path, problem, remedy):
    error = OSError(problem, os.strerror(problem))
    line = f"{tmp_path}: cannot be written: {os.strerror(problem)}; {remedy}"
    with pytest.raises(TrainingError, match=re.escape(line)) as told, writing(train.Run(tmp_path)):
        raise error
    assert told.value.exit_code == 1
    assert "then go on with --resume" in str(told.value)
    assert "\n" not in str(told.value)


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path):
    with pytest.raises(ConnectionError), writing(train.Run(tmp_path)):
        raise ConnectionError(errno.ECONNRESET, "reset")


def test_the_second_signal_ends_the_process_at_once():
    process = os.fork()
    if process == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which what a shell starts behind itself ignores
        with heard_signals(Console(file=StringIO())) as signalled:
            os.kill(os.getpid(), signal.SIGINT)
            while not signalled():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        os._exit(1)
    began = time.monotonic()
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 128 + signal.SIGTERM
    assert time.monotonic() - began < 30


def test_a_terminal_that_closes_saves_too_and_nobody_writes_to_it_any_more():
    """As when the window of a training is closed, or the line breaks."""
    process, terminal = pty.fork()
    if process == 0:
        code = 1
        with open(1, "w", closefd=False) as screen, heard_signals(Console(file=screen)) as signalled:
            os.write(1, b"listening")
            while not signalled():
                time.sleep(0.01)
            time.sleep(0.1)
            os.write(1, b"written before it is saved")
            code = 128 + signalled()
        os._exit(code)
    assert b"listening" in os.read(terminal, 100)
    os.close(terminal)  # the kernel then sends SIGHUP
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 129


def test_what_was_started_with_nohup_does_not_hear_the_terminal_close():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with heard_signals(Console(file=StringIO())) as signalled:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.1)
            assert signalled() is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signals_do_what_they_did_before_once_it_is_over():
    before = [signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)]
    with heard_signals(Console(file=StringIO())) as signalled:
        assert signalled() is None
    assert [signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)] == before
    assert signal.set_wakeup_fd(-1) == -1


# ---- the command, as a shell sees it ---------------------------------------------------------------------------------


def begin(folder, *overrides, **how):
    """`kzoo train` in a process of its own."""
    call = [sys.executable, "-m", "kzoo", "train", str(ROOT / "recipes" / "quickstart.yaml"), "--run-dir", str(folder)]
    call += [part for override in (*SMALL, *overrides) for part in ("--set", override)]
    return subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **how)


def last_line(process):
    return process.communicate(timeout=300)[1].strip().splitlines()[-1]


def test_a_disk_that_is_full_ends_it_with_one_line(tmp_path):
    def no_large_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    process = begin(tmp_path / "run", preexec_fn=no_large_files)
    assert re.search(r"error: .*run: cannot be written: File too large; raise .*; then go on with", last_line(process))
    assert process.returncode == 1
    assert not list((tmp_path / "run").rglob("*.npz"))


def test_interrupted_from_the_keyboard_it_ends_with_the_exit_code_of_that(tmp_path):
    def listening():
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # which what a shell starts behind itself ignores

    process = begin(tmp_path / "run", "train.epochs=100000", preexec_fn=listening)
    log = tmp_path / "run" / "logs" / "metrics.csv"
    deadline = time.monotonic() + 300
    while not (log.exists() and len(log.read_text().splitlines()) > 1):  # until an epoch is over
        assert process.poll() is None, last_line(process)
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said = last_line(process)
    assert process.returncode == 130
    step = int(re.search(r"stopped by SIGINT after step (\d+), which is saved", said)[1])
    assert checkpoint.newest(tmp_path / "run" / "checkpoints").step == step
