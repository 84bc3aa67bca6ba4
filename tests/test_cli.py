"""The command line: what it answers, its exit codes, and that nothing heavy is imported to answer."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import kzoo
from kzoo.cli import app as cli
from kzoo.cli import complete, door
from kzoo.cli import doctor as diagnose
from kzoo.errors import NotKept, TrainingError
from kzoo.plugins import registry

RECIPE = """\
name: quick
data: {name: digits}
backbone: {name: convnet}
method: {name: contrast}
optimizer: {learning_rate: 0.06, per: 256, warmup_epochs: 1}
train: {epochs: 5, batch_size: 512, devices: 2}
"""

PLUGIN = """
from kzoo import BackboneSpec, DatasetSpec, MethodSpec, Options, hookimpl

M = b = d = None

@hookimpl
def kzoo_methods():
    yield MethodSpec(name="contrast", target="kzoo_light:M", options=Options, family="f", summary="s", paper="p")

@hookimpl
def kzoo_backbones():
    yield BackboneSpec(name="convnet", target="kzoo_light:b", options=Options, family="f", summary="s")

@hookimpl
def kzoo_datasets():
    yield DatasetSpec(name="digits", target="kzoo_light:d", options=Options, summary="s")
"""


@pytest.fixture
def run(zoo, monkeypatch, tmp_path, capsys):
    """run("list", ...) -> (exit code, standard output, standard error), in a folder with the recipe r.yaml."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    Path("r.yaml").write_text(RECIPE)

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            cli.main(list(arguments))
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return call


@pytest.fixture
def fake_module(monkeypatch):
    """fake_module("kzoo.x", name=function): what a command imports when it runs."""

    def put(name: str, **functions: Any) -> None:
        module = ModuleType(name)
        vars(module).update(functions)
        monkeypatch.setitem(sys.modules, name, module)

    return put


def rows(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines()]


def test_list_shows_methods_backbones_and_datasets(run):
    code, output, errors = run("list")
    assert (code, errors) == (0, "")
    assert ["contrast", "stub", "embedding", "What", "contrast", "does"] in rows(output)
    assert ["tiles", "stub", "map", "What", "tiles", "does"] in rows(output)
    assert ["convnet", "embedding,", "map", "What", "convnet", "is"] in rows(output)
    assert ["digits", "train,", "test", "28", "x", "28", "grey", "10", "What", "digits", "holds"] in rows(output)
    assert "tfds:<builder>" in output


def test_list_takes_a_kind_and_a_pattern(run):
    _, output, _ = run("list", "backbones", "t*")
    assert [row[0] for row in rows(output)] == ["backbones", "name", "transformer"]
    assert run("list", "methods", "z*")[1] == "no methods match 'z*'\n"


def test_a_list_is_whole_in_a_pipe_and_cut_to_the_width_that_is_asked_for(run, monkeypatch):
    def summaries() -> list[str]:
        return [line.rstrip()[-1] for line in run("list", "methods")[1].splitlines()[2:]]

    monkeypatch.setattr(
        registry, "methods", lambda pattern: [replace(registry.find_method("contrast"), summary="s" * 300)]
    )
    monkeypatch.delenv("COLUMNS")
    assert summaries() == ["s"]
    monkeypatch.setenv("COLUMNS", "80")
    assert summaries() == ["…"]


def test_a_list_names_the_next_command_in_a_terminal_alone(run, monkeypatch):
    assert "kzoo show NAME" not in run("list", "methods")[1]
    monkeypatch.setenv("FORCE_COLOR", "1")  # as in a terminal
    output = run("list", "methods")[1]
    assert "kzoo show NAME says more" in output
    assert "\x1b[1mmethods" in output
    assert "\\x1b" not in output  # a code that became text


def test_an_error_has_no_colour_where_none_is_wanted(run, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[31m" in run("show", "nothing")[2]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in run("show", "nothing")[2]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("evaluate", "no run; name a folder that `kzoo train` made, such as runs/quickstart"),
        ("export", "no run; name a folder that `kzoo train` made, such as runs/quickstart"),
        ("pack", "no run; name a folder that `kzoo train` made, such as runs/quickstart"),
        ("verify", "no such folder; name one that `kzoo export` made, such as RUN/exports/NAME"),
        ("serve", "no such folder; name one that `kzoo export` made, such as RUN/exports/NAME"),
    ],
)
def test_a_folder_that_is_none_is_told_in_a_line_at_once(run, monkeypatch, command, said):
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # whoever imports it fails
    assert run(command, "runs/none") == (2, "", f"error: runs/none: {said}\n")


def test_a_method_names_its_recipes(run, with_recipes):
    assert run("show", "contrast")[1].endswith("\n\nto train it: kzoo list recipes contrast\n")
    assert "to train it" not in run("show", "tiles")[1]


def test_list_as_json(run):
    everything = json.loads(run("list", "--json")[1])
    assert list(everything) == ["methods", "backbones", "datasets", "presets"]
    [tiles] = json.loads(run("list", "methods", "tiles", "--json")[1])
    assert tiles == {
        "kind": "method",
        "name": "tiles",
        "target": "not_imported:tiles",
        "family": "stub",
        "summary": "What tiles does",
        "paper": "Someone 2020",
        "modality": "image",
        "requires": ["map"],
        "channels": [3],
        "any_size": False,
        "check_options": {},
        "check_backbone": None,
        "check_learning_rate": 0.05,
        "offers": [],
        "encodes": "",
        "expected_failures": {},
        "labels": False,
        "least_examples": 1,
        "xla": False,
        "plugin": "stub",
        "distribution": "kzoo-stub 1.2",
    }


def test_list_plugins_says_what_is_wrong_and_what_to_do(run, fake, install, stub):
    def failing():
        raise ImportError("no torch")

    install(stub, fake("torchy", load=failing))
    code, output, errors = run("list", "plugins")
    assert (code, errors) == (0, "")
    assert ["stub", "kzoo-stub", "1.2", "ok"] in rows(output)
    assert ["torchy", "kzoo-torchy", "1.2", "broken"] in rows(output)
    assert output.splitlines()[-3:] == [
        "torchy (kzoo-torchy 1.2)",
        "  what is wrong: ImportError: no torch",
        "  what to do:    pip install --upgrade kzoo-torchy, or switch it off with KZOO_DISABLE_PLUGINS=torchy",
    ]
    [record] = json.loads(run("list", "plugins", "t*", "--json")[1])
    assert (record["status"], record["problem"]) == ("broken", "ImportError: no torch")
    assert record["traceback"].startswith("Traceback")
    assert run("list", "methods")[2] == "broken: torchy; `kzoo list plugins` says what is wrong and what to do\n"


def test_list_says_which_names_it_leaves_out(run, fake, install, stub):
    install(stub, fake("twin", methods=[registry.find_method("tiles")]))
    _, output, errors = run("list", "methods")
    assert [row[0] for row in rows(output)] == ["methods", "name", "contrast", "masked_words"]
    assert errors == (
        "left out: method 'tiles' is brought by plugin 'stub' (kzoo-stub 1.2) and plugin 'twin' (kzoo-twin 1.2); "
        "keep one: KZOO_DISABLE_PLUGINS=stub or KZOO_DISABLE_PLUGINS=twin\n"
    )
    assert run("doctor")[0] == 3


def test_show_prints_requirements_and_options(run):
    code, output, _ = run("show", "contrast")
    assert code == 0
    assert "contrast, a method: What contrast does" in output
    assert ["paper", "Someone", "2020"] in rows(output)
    assert ["needs", "embedding"] in rows(output)
    assert ["plugin", "stub", "(kzoo-stub", "1.2)"] in rows(output)
    assert ["temperature", "0.1", "float", ">", "0", "softmax", "temperature"] in rows(output)
    limits = ["int", "1", "to", "65,536"]
    assert ["projector", "[64,", "32]", "list", "of", *limits, "widths", "of", "the", "layers"] in rows(output)
    assert ["root", "required", "text", "folder", "with", "the", "photos"] in rows(run("show", "photos")[1])
    assert "no options" in run("show", "digits")[1]


def test_show_as_json(run):
    options = json.loads(run("show", "contrast", "--json")[1])["options"]
    assert options[0]["type"] == "int 8 to 4,096 or null"
    assert options[1] == {
        "name": "temperature",
        "type": "float > 0",
        "required": False,
        "default": 0.1,
        "description": "softmax temperature",
    }


def test_show_answers_for_datasets_that_need_no_plugin(run):
    assert "data_dir" in run("show", "tfds:mnist")[1]


def test_dry_run_prints_the_plan_and_the_call(run):
    code, output, errors = run("train", "r.yaml", "--dry-run", "--set", "method.options.temperature=0.3", "--resume")
    assert (code, errors) == (0, "")
    assert ["temperature:", "0.3"] in rows(output)
    assert "0.12 (= 0.06 x 512 / 256), warm-up of 1 epoch, cosine" in output
    assert "512 examples, 256 on each of 2 devices" in output
    assert output.splitlines()[-1] == "to run it: kzoo train r.yaml --set method.options.temperature=0.3 --resume"


def test_dry_run_with_nothing_but_names(run):
    names = "\n".join(RECIPE.splitlines()[:4])
    Path("r.yaml").write_text(names)
    assert run("train", "r.yaml", "--dry-run")[0] == 0


def test_train_evaluate_and_export_call_what_does_the_work(run, fake_module):
    calls: list[Any] = []
    fake_module(
        "kzoo.train.loop", train=lambda recipe, **how: calls.append((recipe.name, how["run_dir"], how["resume"]))
    )
    fake_module(
        "kzoo.runs.report",
        evaluate_run=lambda folder, console, sources=None, recipe=None: {"knn": 0.5},
        export_run=lambda folder, formats, destination, console: calls.append((folder, formats, destination)),
    )
    assert run("train", "r.yaml", "--run-dir", "here", "--resume")[0] == 0
    assert calls == [("quick", Path("here"), True)]
    Path("here").mkdir()
    Path("here/recipe.yaml").touch()
    assert run("evaluate", "here", "--json")[1] == '{\n  "knn": 0.5\n}\n'
    assert run("evaluate", "here")[1] == ""
    assert run("export", "here", "--format", "saved_model", "--to", "there")[0] == 0
    assert run("export", "here")[0] == 0
    assert calls[1:] == [(Path("here"), ["saved_model"], Path("there")), (Path("here"), ["saved_model"], None)]


WRONG_CALLS = [
    (2, ["list", "pictures"]),
    (2, ["show"]),
    (2, ["nothing"]),
    (2, ["evaluate", "no/such/run"]),
    (3, ["export", ".", "--format", "pickle"]),
    (2, ["train", "none.yaml"]),
    (2, ["train", "r.yaml", "--set", "train.epochs=0"]),
    (3, ["train", "r.yaml", "--set", "method.name=contrst"]),
    (3, ["show", "contrst"]),
]


@pytest.mark.parametrize(("code", "arguments"), WRONG_CALLS, ids=[" ".join(call) for _, call in WRONG_CALLS])
def test_wrong_calls(code, arguments, run):
    answered, output, errors = run(*arguments)
    assert answered == code
    assert output == ""
    assert errors
    assert "Traceback" not in errors


def test_an_error_of_the_recipe_is_one_line(run):
    code, _, errors = run("train", "r.yaml", "--dry-run", "--set", "train.epoch=3")
    assert code == 2
    assert errors == "error: --set train.epoch=3: unknown key; did you mean 'epochs'?\n"


def failing(error: Exception):
    def train(*_: Any, **__: Any) -> None:
        raise error

    return train


def test_a_run_that_fails_exits_with_1_and_its_line(run, fake_module):
    fake_module("kzoo.train.loop", train=failing(TrainingError("loss is nan at step 3; lower the learning rate")))
    assert run("train", "r.yaml") == (1, "", "error: loss is nan at step 3; lower the learning rate\n")


def test_an_error_nobody_foresaw_is_three_lines_and_its_traceback_only_with_debug(run, fake_module):
    fake_module("kzoo.train.loop", train=failing(KeyError("surprise")))
    code, _, errors = run("train", "r.yaml")
    first, where, advice = errors.splitlines()
    assert (code, first) == (1, "error: KeyError: 'surprise'")
    assert where.startswith(f"  at {__file__}:")
    assert advice.startswith("  kzoo did not expect this; the whole trace is in ")
    assert advice.endswith(", and --debug shows it")
    kept = Path(advice.split()[10].rstrip(","))
    assert kept.read_text().endswith("KeyError: 'surprise'\n")
    kept.unlink()
    assert "Traceback" in run("train", "r.yaml", "--debug")[2]


def test_an_evaluation_that_cannot_be_kept_is_answered_all_the_same(run, fake_module):
    def evaluate_run(*_: Any, **__: Any) -> None:
        raise NotKept("here: read-only", {"knn": 0.5})

    fake_module("kzoo.runs.report", evaluate_run=evaluate_run)
    Path("here").mkdir()
    Path("here/recipe.yaml").touch()
    assert run("evaluate", "here", "--json") == (1, '{\n  "knn": 0.5\n}\n', "error: here: read-only\n")


NOISE = "I0000 00:00 port.cc:1] on"


@pytest.mark.parametrize(("level", "passed_on"), [("3", ["a real fault"]), ("0", [NOISE, "a real fault"])])
def test_only_what_tensorflow_logs_while_imported_is_kept_back(level, passed_on, capfd, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", level)
    with door.importing_tensorflow():
        os.write(2, f"{NOISE}\na real fault\n".encode())
    assert capfd.readouterr().err.splitlines() == passed_on


def test_the_error_stream_is_whole_again_after_an_import_that_fails(capfd, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    with suppress(ImportError), door.importing_tensorflow():
        os.write(2, b"why it failed\n")
        raise ImportError
    os.write(2, b"I0000 later\n")
    assert capfd.readouterr().err == "why it failed\nI0000 later\n"


def test_version_and_help(run):
    assert run("--version") == (0, f"kzoo {kzoo.__version__}\n", "")
    assert "Train a recipe" in run("--help")[1]


def test_the_version_is_that_of_the_distribution():
    assert metadata.version("kzoo") == kzoo.__version__


def test_everything_that_is_promised_can_be_imported():
    for name in kzoo.__all__:
        assert getattr(kzoo, name) is not None
    assert set(dir(kzoo)) == set(kzoo.__all__)
    with pytest.raises(AttributeError, match="module 'kzoo' has no attribute 'Methud'"):
        kzoo.Methud  # noqa: B018


def test_doctor_exit_codes(run, fake, install, stub, monkeypatch):
    code, output, _ = run("doctor")
    assert (code, output.splitlines()[-1]) == (0, "nothing is wrong")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    code, output, _ = run("doctor")
    assert code == 1
    assert output.splitlines()[-1] == "Keras is set to the backend 'jax'; kzoo needs KERAS_BACKEND=tensorflow"
    install(stub, fake("torchy", load=failing(ImportError("no torch"))))
    code, output, _ = run("doctor")
    assert code == 3
    assert "2 wrong:" in output
    assert output.splitlines()[-1].startswith("plugin 'torchy' (kzoo-torchy 1.2): ImportError: no torch; pip install")


def test_doctor_reads_keras_own_configuration(run, tmp_path):
    (tmp_path / "keras.json").write_text('{"backend": "torch"}')
    assert run("doctor")[0] == 1
    (tmp_path / "keras.json").write_text("not JSON")
    assert run("doctor")[0] == 0


def test_doctor_notices_versions_that_do_not_match(monkeypatch):
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "2.14.0" if name == "tensorflow" else real(name))
    problems = diagnose.examine().problems
    assert [line for line in problems if line.startswith("tensorflow ")] == [
        "tensorflow 2.14.0; kzoo needs <2.22,>=2.21: pip install 'tensorflow<2.22,>=2.21'"
    ]

    def missing(name: str) -> str:
        if name == "rich":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert "rich is not installed; kzoo needs >=13.9: pip install 'rich>=13.9'" in diagnose.examine().problems


HEAVY = ("tensorflow", "keras", "numpy", "matplotlib", "sklearn", "tensorflow_datasets", "fastapi", "uvicorn")


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        ["list", "plugins"],
        ["show", "contrast"],
        ["train", "r.yaml", "--dry-run"],
        ["doctor"],
        ["serve", "--help"],
    ],
)
def test_nothing_heavy_is_imported_to_answer(arguments, distribution, tmp_path):
    (tmp_path / "r.yaml").write_text(RECIPE)
    environment = distribution("light", PLUGIN)
    script = (
        "import sys\nfrom kzoo.cli import app as cli\n"
        f"try: cli.main({arguments!r})\n"
        "except SystemExit as stop: print(stop.code or 0, file=sys.stderr)\n"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert answer.stderr.splitlines() == ["0", ""]


def test_the_bundled_plugins_are_light_too():
    """Negative control included: the same question finds Keras once a method is asked for."""
    script = (
        "import sys, kzoo\nfrom kzoo.plugins.registry import methods, backbones, datasets\n"
        "methods(), backbones(), datasets()\n"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])\n"
        "kzoo.Method\n"
        "print('keras' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines() == ["", "True"]


def test_a_list_has_one_line_a_row_and_shows_of_each_what_there_is_room_for(run, monkeypatch):
    """Names are whole; columns in the middle give way to the summary, and the summary ends where the line does."""
    for width, columns in ((30, ["name", "summary"]), (160, ["name", "family", "needs", "summary"])):
        monkeypatch.setenv("COLUMNS", str(width))
        _, output, _ = run("list", "methods")
        _, heading, *lines = output.splitlines()
        assert heading.split() == columns
        assert [line.split()[0] for line in lines] == ["contrast", "masked_words", "tiles"]
        assert max(map(len, output.splitlines())) <= width
        assert any(line.rstrip().endswith("…") for line in lines) == (width == 30)


def test_serving_needs_an_extra_and_says_so(run, monkeypatch, tmp_path):
    monkeypatch.setattr("kzoo.cli.use.find_spec", lambda name: None if name == "uvicorn" else object())
    assert run("serve", str(tmp_path)) == (1, "", "error: uvicorn: not installed; pip install 'kzoo[serve]'\n")


def test_serve_hands_on_what_it_was_called_with(run, fake_module, tmp_path):
    called = []
    fake_module("kzoo.serve.app", Limits=lambda *limits: limits)
    fake_module("kzoo.serve.server", serve=lambda *given: called.append(given[:-1]))
    assert run("serve", str(tmp_path), "--port", "0", "--max-bytes", "9", "--timeout", "2.5")[0] == 0
    assert called == [(tmp_path, "127.0.0.1", 0, (9, 2.5))]


RECIPE_FILE = """\
# What it shows: contrast on digits.
# What it costs: a minute.
# Command:       kzoo train recipes/small/contrast.yaml
kzoo: 1
name: small-contrast
data: {name: digits}
backbone: {name: convnet}
method: {name: contrast}
"""


@pytest.fixture
def with_recipes(tmp_path) -> None:
    folder = tmp_path / "recipes" / "small"
    folder.mkdir(parents=True)
    (folder / "contrast.yaml").write_text(RECIPE_FILE)
    (folder / "broken.yaml").write_text("name: [")


def test_recipes_are_listed_with_what_they_put_together_and_show(run, with_recipes, monkeypatch):
    for pattern in ("*", "small/*", "small-c*", "contrast"):
        _, output, _ = run("list", "recipes", pattern)
        assert rows(output)[1] == ["recipe", "method", "data", "backbone", "summary"]
        assert rows(output)[2][:4] == ["recipes/small/contrast.yaml", "contrast", "digits", "convnet"]
    assert run("list", "recipes", "large/*")[1] == "no recipes match 'large/*'\n"
    [recipe] = json.loads(run("list", "recipes", "--json")[1])
    assert recipe["header"]["What it costs"] == "a minute."
    monkeypatch.setenv("COLUMNS", "50")
    assert rows(run("list", "recipes")[1])[1] == ["recipe", "summary"]


def test_show_tells_what_a_recipe_says_of_itself_and_names_near_ones_of_any_kind(run, with_recipes):
    for name in ("small-contrast", "small/contrast", "recipes/small/contrast.yaml"):
        code, output, _ = run("show", name)
        assert code == 0
        assert ["what", "it", "costs", "a", "minute."] in rows(output)
    near = "error: unknown name '{}'; did you mean '{}'?\n"
    assert "did you mean 'small-contrast', 'small/contrast' or 'contrast'?" in run("show", "small-contrst")[2]
    assert run("show", "convnt")[2] == near.format("convnt", "convnet")
    assert run("show", "imag")[2] == near.format("imag", "image")


def test_a_shell_completes_names_and_recipes(run, with_recipes, monkeypatch, capsys):
    def offered(*words: str) -> list[str]:
        monkeypatch.setenv("_KZOO_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join(("kzoo", *words)))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        return run()[1].split()

    assert offered("show", "con") == ["contrast", "convnet"]
    assert "recipes/small/contrast.yaml" in offered("train", "rec")
    assert offered("check", "ti") == ["tiles"]
    assert offered("list", "rec") == ["recipes"]


def test_completion_offers_nothing_where_something_is_wrong(monkeypatch):
    monkeypatch.setattr(registry, "methods", failing(RuntimeError("broken")))
    assert complete.checkable("c") == []


def test_the_plan_says_what_applies_and_no_more(run):
    def row(key: str, *overrides: str) -> str:
        sets = [word for override in overrides for word in ("--set", override)]
        _, output, _ = run("train", "r.yaml", "--dry-run", *sets)
        return next((line[len(key) :].strip() for line in output.splitlines() if line.startswith(f"{key} ")), "")

    assert row("optimizer") == "sgd, momentum 0.9, coupled weight decay 0.0005"
    assert row("optimizer", "optimizer.name=adam", "optimizer.weight_decay=0") == "adam, no weight decay"
    clipped = row("optimizer", "optimizer.nesterov=true", "optimizer.clip_norm=1", "optimizer.decay_scope=all")
    assert clipped.startswith(
        "sgd, Nesterov's momentum 0.9, coupled weight decay 0.0005 of all parameters, gradient of"
    )
    assert row("pictures") == ""
    data = ["data={name: 'tfds:mnist', options: {size: 20}}", "evaluate={max_train: 50, max_test: 9}"]
    assert row("pictures", *data) == "their central squares, of 20 x 20 pixels"
    asked = row("evaluation", *data, "evaluate.linear=null", "evaluate.low_shot=null")
    assert asked.startswith(
        "20 nearest neighbours, on the dataset's split test, at most 9 examples; learnt from at most"
    )
    assert row("evaluation", "evaluate.knn=null", "evaluate.linear=null") == "none"  # few labels are a linear probe's


def test_a_cell_of_a_notebook_ends_quietly_when_all_went_well(run, monkeypatch, capsys):
    monkeypatch.setattr("builtins.__IPYTHON__", True, raising=False)
    assert cli.main(["list", "methods", "con*"]) is None
    assert "contrast" in capsys.readouterr().out
    assert run("show", "nothing-like-it")[0] == 3
