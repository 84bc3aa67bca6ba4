"""Broken plugins, as real distributions in front of the real command: each is told, and none stops the others."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

METHOD = """
from kzoo import MethodSpec, Options, hookimpl

class Echo: ...

@hookimpl
def {hook}():
    yield MethodSpec(name="{name}", target="{target}", options=Options, family="f", summary="s", paper="p")
"""


def method(name: str, *, target: str = "", hook: str = "kzoo_methods") -> str:
    return METHOD.format(name=name, target=target or f"kzoo_{name}:Echo", hook=hook)


MISSING_CLASS = (
    "method 'hollow' points to 'kzoo_hollow:Ecko', and there is no 'Ecko' in module 'kzoo_hollow'",
    "pip install --upgrade kzoo-hollow, or switch it off with KZOO_DISABLE_PLUGINS=hollow",
)

# name: (source, how it is distributed, what is wrong, what to do)
BROKEN = {
    "imports": (
        "import no_such_library",
        {},
        "ModuleNotFoundError: No module named 'no_such_library'",
        "pip install --upgrade kzoo-imports, or switch it off with KZOO_DISABLE_PLUGINS=imports",
    ),
    "exits": (
        "print('{')\nimport sys; sys.exit('no GPU, no plugin')",
        {},
        "SystemExit: no GPU, no plugin",
        "pip install --upgrade kzoo-exits, or switch it off with KZOO_DISABLE_PLUGINS=exits",
    ),
    "twin": (
        method("twin"),
        {"entry_points": "[kzoo]\nsound = kzoo_twin\n"},
        "its entry point is called 'sound', as is that of kzoo-sound 3.4",
        "keep one of them: KZOO_DISABLE_PLUGINS=kzoo-twin or =kzoo-sound",
    ),
    "newer": (
        method("newer"),
        {"requires": "kzoo>=9.1"},
        "needs kzoo>=9.1, this is kzoo 0.1.0",
        "install versions that fit: pip install --upgrade kzoo kzoo-newer",
    ),
    "misspelt": (
        method("misspelt", hook="kzoo_method"),
        {},
        "declares the hook 'kzoo_method', which kzoo 0.1.0 does not know; did it mean 'kzoo_methods'?",
        "pip install --upgrade kzoo kzoo-misspelt, or switch it off with KZOO_DISABLE_PLUGINS=misspelt",
    ),
    "hollow": (method("hollow", target="kzoo_hollow:Ecko"), {}, *MISSING_CLASS),
}


@pytest.fixture
def environment(distribution) -> dict[str, str]:
    """A process with this environment finds one sound plugin and all the broken ones."""
    for name, (source, how, *_) in BROKEN.items():
        distribution(name, source, **how)
    return {**distribution("sound", method("sound")), "COLUMNS": "100"}


def kzoo(environment: dict[str, str], *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-m", "kzoo", *arguments]
    return subprocess.run(call, env=environment, cwd=cwd, capture_output=True, text=True)


def test_list_plugins_tells_each_with_what_to_do(environment):
    answer = kzoo(environment, "list", "plugins")
    assert (answer.returncode, answer.stderr) == (0, "{\n")  # what a plugin prints on import is kept off the answer
    lines = answer.stdout.splitlines()
    listed = [line.split() for line in lines]
    assert ["sound", "kzoo-sound", "3.4", "ok"] in listed
    for name, (_, _, problem, remedy) in BROKEN.items():
        entry = "sound" if name == "twin" else name
        assert [entry, f"kzoo-{name}", "3.4", "broken"] in listed
        place = lines.index(f"{entry} (kzoo-{name} 3.4)")
        assert lines[place + 1 : place + 3] == [f"  what is wrong: {problem}", f"  what to do:    {remedy}"]
    assert [row["status"] for row in json.loads(kzoo(environment, "list", "plugins", "--json").stdout)].count("ok") == 1


def test_it_takes_under_a_second(environment):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    kzoo(environment, "list", "plugins")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0  # of processor: others may wait


def test_the_sound_method_is_listed_and_the_others_are_told(environment):
    answer = kzoo(environment, "list", "methods")
    assert answer.returncode == 0
    assert [line.split()[0] for line in answer.stdout.splitlines()] == ["methods", "name", "sound"]
    assert answer.stderr.splitlines()[-1] == (
        "broken: exits, hollow, imports, misspelt, newer, sound; `kzoo list plugins` says what is wrong and what to do"
    )


RECIPE = "name: r\ndata: {{name: digits}}\nbackbone: {{name: convnet4}}\nmethod: {{name: {method}}}\n"


@pytest.mark.parametrize("name", ["imports", "exits", "hollow"])
def test_a_recipe_that_names_a_broken_one_exits_with_3_and_its_traceback_with_debug(name, distribution, tmp_path):
    source, how, problem, remedy = BROKEN[name]
    environment = distribution(name, source, **how)
    environment["KZOO_PLUGINS"] += ",backbones,samples"
    (tmp_path / "r.yaml").write_text(RECIPE.format(method=name))
    answer = kzoo(environment, "train", "r.yaml", cwd=tmp_path)
    assert answer.returncode == 3
    assert answer.stderr.splitlines()[-1].startswith(
        f"error: r.yaml:4: method.name: unknown method '{name}'; plugin '{name}' (kzoo-{name} 3.4) may bring it but is "
        f"broken: {problem}; {remedy}"
    )
    assert "Traceback" not in answer.stderr
    told = kzoo(environment, "train", "r.yaml", "--debug", cwd=tmp_path).stderr
    assert f"plugin '{name}' (kzoo-{name} 3.4):\nTraceback" in told
    if name != "hollow":  # which was never run
        assert f'{tmp_path}/kzoo_{name}.py", line {len(source.splitlines())}, in <module>' in told


def test_a_recipe_that_names_none_of_them_trains(environment, tmp_path):
    environment["KZOO_PLUGINS"] += ",backbones,samples,contrastive"
    (tmp_path / "r.yaml").write_text(
        RECIPE.format(method="simclr, options: {size: 16, projector: [16]}").replace(
            "digits", "digits, options: {limit: 60}"
        )
        + "train: {epochs: 1, batch_size: 16, steps_per_epoch: 2}\n"
        "evaluate: {knn: null, linear: null, low_shot: null}\nexport: {formats: []}\n"
    )
    answer = kzoo(environment, "train", "r.yaml", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert json.loads((tmp_path / "runs/r/kzoo.json").read_text())["status"] == "finished"


def test_two_methods_of_one_name_are_told_with_how_to_choose(distribution, tmp_path):
    distribution("theirs", method("echo", target="kzoo_theirs:Echo"))
    environment = distribution("ours", method("echo", target="kzoo_ours:Echo"))
    told = (
        "method 'echo' is brought by plugin 'ours' (kzoo-ours 3.4) and plugin 'theirs' (kzoo-theirs 3.4); "
        "keep one: KZOO_DISABLE_PLUGINS=ours or KZOO_DISABLE_PLUGINS=theirs"
    )
    for kind in ("plugins", "methods"):
        answer = kzoo(environment, "list", kind)
        assert (answer.returncode, answer.stderr) == (0, f"left out: {told}\n")
    answer = kzoo(environment, "show", "echo")
    assert (answer.returncode, answer.stderr) == (3, f"error: {told}\n")
    chosen = kzoo({**environment, "KZOO_DISABLE_PLUGINS": "theirs"}, "show", "echo")
    assert chosen.returncode == 0
    assert "kzoo-ours 3.4" in chosen.stdout


@pytest.mark.parametrize(("group", "told"), [("kzoo", ["sound", "kzoo-garbled"]), ("console_scripts", ["sound"])])
def test_a_list_of_entry_points_that_cannot_be_read_stops_none(group, told, distribution):
    """Python's own reader of all entry points stops at it. In another package's list it is none of our business."""
    distribution("garbled", "", entry_points=f"[{group}]\nno equals sign\n")
    answer = kzoo(distribution("sound", method("sound")), "list", "plugins", "--json")
    assert answer.returncode == 0, answer.stderr
    records = [record for record in json.loads(answer.stdout) if record["status"] != "disabled"]
    assert [record["name"] for record in records if record["distribution"]] == told
    problems = [record["problem"] for record in records if record["name"] == "kzoo-garbled"]
    assert problems[0].startswith(
        "its entry_points.txt cannot be read: " if group == "kzoo" else "KZOO_PLUGINS names it"
    )
