"""`kzoo new`: what it writes installs, passes the suite and trains as it is; what it cannot write it refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kzoo.cli import app as cli
from kzoo.errors import RecipeError
from kzoo.plugins import new

FILES = {
    ".github/workflows/test.yml",
    ".gitignore",
    "LICENSE",
    "README.md",
    "pyproject.toml",
    "recipes/two_words.yaml",
    "src/kzoo_two_words/__init__.py",
    "src/kzoo_two_words/options.py",
    "src/kzoo_two_words/plugin.py",
    "src/kzoo_two_words/two_words.py",
    "tests/test_two_words.py",
}
SECOND = {"method": {"src/kzoo_two_words/two_words_teacher.py"}, "backbone": set()}


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("kind", "brings"), [("method", "class TwoWords("), ("backbone", "def two_words(")])
def test_it_writes_a_distribution(kind, brings, install, tmp_path):
    install()
    folder = new.create("two_words", kind, tmp_path)
    assert folder == tmp_path / "kzoo-two-words"
    assert files(folder) == FILES | SECOND[kind]
    assert [path.name for path in tmp_path.iterdir()] == ["kzoo-two-words"]
    assert brings in (folder / "src/kzoo_two_words/two_words.py").read_text()
    text = "".join((folder / name).read_text() for name in FILES).lower()
    assert "newmethod" not in text
    assert "newbackbone" not in text


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("Acme", "'Acme' cannot name a method; write it as lower_snake_case, for example my_method"),
        ("a-b", "'a-b' cannot name a method; write it as lower_snake_case, for example my_method"),
        ("../up", "'../up' cannot name a method; write it as lower_snake_case, for example my_method"),
        ("import", "'import' cannot name a method; write it as lower_snake_case, for example my_method"),
        ("options", "'options' cannot name a method: its own code uses options for something else"),
        ("method", "'method' cannot name a method: its own code uses "),
        ("tiles", "'tiles' is taken: plugin 'stub' (kzoo-stub 1.2) brings it; choose another name"),
        ("digits", "'digits' is taken: plugin 'stub' (kzoo-stub 1.2) brings it; choose another name"),
        ("stub", "'stub' is taken by plugin 'stub' (kzoo-stub 1.2); choose another name"),
        ("there", "kzoo-there exists already; remove it, or choose another name"),
    ],
)
def test_a_name_that_cannot_be_had_is_refused_in_a_line(name, problem, zoo, tmp_path, monkeypatch, capsys):
    (tmp_path / "kzoo-there").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main(["new", name])
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert problem in told
    assert told.count("\n") == 1
    assert files(tmp_path) == set()


def test_what_fails_half_way_leaves_nothing(install, tmp_path, monkeypatch):
    install()
    written = []

    def fails(path: Path, *_: str) -> None:
        written.append(path)
        if len(written) == 3:
            raise OSError("disk full")

    monkeypatch.setattr(Path, "write_text", fails)
    with pytest.raises(OSError, match="disk full"):
        new.create("acme", "method", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_second_one_does_not_overwrite_the_first(install, tmp_path):
    install()
    readme = new.create("acme", "method", tmp_path) / "README.md"
    readme.write_text("mine")
    with pytest.raises(RecipeError, match="exists already"):
        new.create("acme", "backbone", tmp_path)
    assert readme.read_text() == "mine"


def test_it_imports_nothing_heavy(tmp_path):
    script = (
        "import sys\nfrom kzoo.cli import app as cli\n"
        "try: cli.main(['new', 'acme'])\nexcept SystemExit as stop: print(stop.code)\n"
        "print([name for name in ('tensorflow', 'keras', 'numpy') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines() == [
        "./kzoo-acme holds the method 'acme'. Next:",
        "  pip install --editable ./kzoo-acme",
        "  kzoo check acme",
        "  kzoo train kzoo-acme/recipes/acme.yaml",
        "0",
        "[]",
    ]


# ---- what it writes, in an environment of its own -------------------------------------------------------------------


@pytest.fixture(scope="module")
def newcomer(fresh_environment):
    """An environment with kzoo and three of its plugins, where somebody made and installed `acme` and `acme_net`."""
    plugins = Path(__file__).parents[1] / "plugins"
    fresh_environment.build(*(plugins / name for name in ("backbones", "contrastive", "samples")))
    fresh_environment.install("kzoo-backbones", "kzoo-contrastive", "kzoo-samples")
    for call in (["acme"], ["acme_net", "--backbone"]):
        assert fresh_environment.run("kzoo", "new", *call).returncode == 0
    fresh_environment.build(fresh_environment.folder / "kzoo-acme", fresh_environment.folder / "kzoo-acme-net")
    fresh_environment.install("kzoo-acme", "kzoo-acme-net")
    return fresh_environment


@pytest.mark.parametrize("method", ["acme", "acme_teacher"])
def test_the_methods_pass_the_suite_under_an_optimised_python_too(method, newcomer):
    """`python -O` leaves assert statements out: whatever the suite does may not stand in one."""
    answer = newcomer.run("python", "-O", "-m", "kzoo", "check", method)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_the_test_of_the_second_method_holds(newcomer):
    answer = newcomer.run("python", "-m", "pytest", "-q", "-k", "tenth", cwd=newcomer.folder / "kzoo-acme")
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_the_backbone_passes_the_suite_under_its_own_tests(newcomer):
    answer = newcomer.run("python", "-m", "pytest", "-q", cwd=newcomer.folder / "kzoo-acme-net")
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_the_recipe_of_the_method_trains(newcomer):
    few = ["train.epochs=1", "train.steps_per_epoch=2", "evaluate.linear=null", "evaluate.low_shot=null"]
    few += ["evaluate.max_train=200", "evaluate.max_test=100"]
    overrides = [part for value in few for part in ("--set", value)]
    answer = newcomer.run("kzoo", "train", "kzoo-acme/recipes/acme.yaml", *overrides)
    assert answer.returncode == 0, answer.stderr
    assert json.loads((newcomer.folder / "runs/acme/kzoo.json").read_text())["status"] == "finished"
    assert (newcomer.folder / "runs/acme/exports/acme/1/saved_model.pb").exists()


def test_the_recipe_of_the_backbone_is_sound(newcomer):
    answer = newcomer.run("kzoo", "train", "kzoo-acme-net/recipes/acme_net.yaml", "--dry-run")
    assert answer.returncode == 0, answer.stderr
