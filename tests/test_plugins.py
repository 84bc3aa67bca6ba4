"""Finding plugins: what is sound works, what is broken is reported with what to do, and neither touches the other."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import Field

from kzoo import MethodSpec, Options, hookimpl
from kzoo.plugins.load import load_plugins

SOUND = MethodSpec(name="sound", target="nowhere:Sound", options=Options, family="f", summary="s", paper="p")


MEOW = """
from kzoo import MethodSpec, Options, hookimpl
@hookimpl
def kzoo_methods():
    yield MethodSpec(name="meow", target="kzoo_meow:Meow", options=Options, family="cats", summary="", paper="")

class Meow: ...
"""


def spec(name: str = "other", **changes: object) -> MethodSpec:
    return MethodSpec(
        **{
            "target": "nowhere:M",
            "options": Options,
            "family": "f",
            "summary": "s",
            "paper": "p",
            **changes,
            "name": name,
        }
    )


def raises(error: BaseException):
    def load():
        raise error

    return load


def yields_then_raises():
    yield spec("half")
    raise RuntimeError("out of records")


class UnknownHook:
    @hookimpl
    def kzoo_method(self):
        return []


class Unmarked:
    def kzoo_methods(self):
        return []

    @hookimpl
    def kzoo_backbones(self):
        return []


class UnknownArgument:
    @hookimpl
    def kzoo_methods(self, colour):
        return []


BROKEN = {
    "import": ({"load": raises(ImportError("No module named 'torch'"))}, "ImportError: No module named 'torch'"),
    "exit": ({"load": raises(SystemExit(4))}, "SystemExit: 4"),
    "generator_exit": ({"load": raises(GeneratorExit())}, "GeneratorExit"),
    "version": (
        {"requires": ("numpy", "kzoo[test] (>=9.1) ; python_version > '3'")},
        "needs kzoo>=9.1, this is kzoo 0.1.0",
    ),
    "requirement": ({"requires": ("kzoo>=>1",)}, "InvalidRequirement: "),
    "hook": (
        {"load": UnknownHook},
        "declares the hook 'kzoo_method', which kzoo 0.1.0 does not know; did it mean 'kzoo_methods'?",
    ),
    "no_hook": ({"load": SimpleNamespace}, "'kzoo_no_hook.plugin' has no hook"),
    "unmarked": ({"load": Unmarked}, "kzoo_methods is not marked with @kzoo.hookimpl"),
    "argument": ({"load": UnknownArgument}, "PluginValidationError: Plugin 'argument' for hook 'kzoo_methods'"),
    "not_a_record": ({"methods": ["simclr"]}, "TypeError: kzoo_methods yielded 'simclr'; expected a kzoo.MethodSpec"),
    "other_record": ({"backbones": [SOUND]}, "TypeError: kzoo_backbones yielded MethodSpec("),
    "nothing_iterable": ({"methods": lambda: 3}, "TypeError: 'int' object is not iterable"),
    "raises": ({"methods": yields_then_raises}, "RuntimeError: out of records"),
    "twice": ({"methods": [spec("a"), spec("a")]}, "ValueError: kzoo_methods yielded method 'a' twice"),
    "name": (
        {"methods": [spec("SimCLR")]},
        "ValueError: kzoo_methods: name is 'SimCLR'; expected lower_snake_case, or ",
    ),
    "target": (
        {"methods": [spec(target="a.B")]},
        "ValueError: kzoo_methods: target of 'other' is 'a.B'; expected 'module:",
    ),
    "options": (
        {"methods": [spec(options=dict)]},
        "TypeError: kzoo_methods: options of 'other' is <class 'dict'>; exp",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_reported_and_the_others_work(name, fake, install):
    arguments, problem = BROKEN[name]
    found = install(fake("a_sound", methods=[SOUND]), fake(name, **arguments), fake("z_sound", methods=[spec("last")]))
    by_name = {record.name: record for record in found.records}
    assert [item.spec.name for item in found.provided["method"]] == ["last", "sound"]
    assert by_name["a_sound"].ok
    assert by_name["z_sound"].ok
    record = by_name[name]
    assert found.broken == (record,)
    assert record.problem.startswith(problem)
    assert "\n" not in record.problem + record.remedy
    assert (record.distribution, record.version, record.module) == (f"kzoo-{name}", "1.2", f"kzoo_{name}.plugin")
    assert record.traceback.startswith("Traceback")
    assert record.title == f"plugin '{name}' (kzoo-{name} 1.2)"


def test_a_bridge_may_put_its_library_before_a_slash(fake, install):
    assert install(fake("bridge", methods=[spec("keras_cv/resnet18_v2")])).records[0].ok
    assert not install(fake("bridge", methods=[spec("keras_cv/a/b")])).records[0].ok


def test_a_user_who_interrupts_is_obeyed(fake, install):
    with pytest.raises(KeyboardInterrupt):
        install(fake("slow", load=raises(KeyboardInterrupt())))


@pytest.mark.parametrize(
    "fits", ["kzoo", "kzoo>=0.1,<0.2", "kzoo>=9; extra == 'later'", "kzoo-backbones>=9", "kzoo_more>=9"]
)
def test_a_plugin_that_fits_this_version_loads(fits, fake, install):
    assert install(fake("fits", methods=[SOUND], requires=(fits,))).records[0].ok


def test_remedies_name_the_distribution_and_the_switch(fake, install):
    bad, old = fake("bad", load=raises(ImportError("x"))), fake("old", requires=("kzoo<0.1",))
    found = install(bad, old)
    assert found.records[0].remedy == "pip install --upgrade kzoo-bad, or switch it off with KZOO_DISABLE_PLUGINS=bad"
    assert found.records[1].remedy == "install versions that fit: pip install --upgrade kzoo kzoo-old"


def test_a_second_entry_point_of_the_same_name_is_reported(fake, install):
    theirs = fake("sound", methods=[spec("theirs")], distribution="kzoo-theirs")
    found = install(theirs, fake("sound", methods=[SOUND], distribution="kzoo-ours"))
    assert [(record.distribution, record.status) for record in found.records] == [
        ("kzoo-ours", "ok"),
        ("kzoo-theirs", "broken"),
    ]
    assert found.broken[0].problem == "its entry point is called 'sound', as is that of kzoo-ours 1.2"
    assert found.broken[0].remedy == "keep one of them: KZOO_DISABLE_PLUGINS=kzoo-theirs or =kzoo-ours"


def test_the_switch_that_this_remedy_names_helps(fake, install, monkeypatch):
    entries = [fake("sound", methods=[spec(who)], distribution=f"kzoo-{who}") for who in ("ours", "theirs")]
    install(*entries)
    monkeypatch.setenv("KZOO_DISABLE_PLUGINS", "kzoo-ours")
    found = install(*entries)
    assert not found.broken
    assert [item.spec.name for item in found.provided["method"]] == ["theirs"]


@pytest.mark.parametrize(
    ("switches", "statuses"),
    [
        ({}, "ok ok ok"),
        ({"KZOO_PLUGINS": ""}, "disabled disabled disabled"),
        ({"KZOO_PLUGINS": "a, kzoo-c"}, "ok disabled ok"),
        ({"KZOO_DISABLE_PLUGINS": "b"}, "ok disabled ok"),
        ({"KZOO_DISABLE_PLUGINS": ""}, "ok ok ok"),
        ({"KZOO_PLUGINS": "a,b", "KZOO_DISABLE_PLUGINS": "b"}, "ok disabled disabled"),
        ({"KZOO_PLUGINS": "a,misspelt"}, "ok disabled disabled broken"),
    ],
)
def test_switches(switches, statuses, fake, install, monkeypatch):
    for name, value in switches.items():
        monkeypatch.setenv(name, value)
    found = install(*(fake(name, methods=[spec(name)]) for name in "abc"))
    assert [record.status for record in found.records] == statuses.split()
    loaded = [record.name for record in found.records if record.ok]
    assert [item.spec.name for item in found.provided["method"]] == loaded


def test_a_disabled_plugin_is_never_imported(fake, install, monkeypatch):
    monkeypatch.setenv("KZOO_DISABLE_PLUGINS", "bad")
    found = install(fake("bad", load=raises(AssertionError("imported"))))
    assert found.records[0].disabled
    assert found.records[0].problem == "switched off by KZOO_DISABLE_PLUGINS"
    assert found.broken == ()


def test_plugins_are_loaded_once(fake, install):
    loads = []
    install(fake("once", load=lambda: loads.append(1)))
    load_plugins()
    assert loads == [1]


def test_callbacks_of_a_plugin_that_raises_are_reported_and_the_others_kept(install, fake):
    class Sound:
        @hookimpl
        def kzoo_callbacks(self, run_dir):  # a hook may leave out arguments
            yield ("callback for", run_dir)

    class Raising:
        @hookimpl
        def kzoo_callbacks(self, recipe, run_dir):
            yield "never used"
            raise OSError("no logger")

    found = install(fake("raising", load=Raising), fake("sound", load=Sound))
    callbacks, broken = found.callbacks("recipe", Path("run"))
    assert callbacks == [("callback for", Path("run"))]
    assert [record.name for record in broken] == ["raising"]
    assert broken[0].problem == "kzoo_callbacks raised OSError: no logger"


class LoggerOptions(Options):
    project: str = Field(description="what runs belong to")
    every: int = Field(1, ge=1, description="epochs between two figures")


class Logger:
    @hookimpl
    def kzoo_callback_options(self):
        return LoggerOptions

    @hookimpl
    def kzoo_callbacks(self, options, worker):
        yield options, worker


class OnTheFirst(Logger):
    @hookimpl
    def kzoo_callbacks(self, options):
        yield "first", options


def test_callbacks_are_told_what_the_recipe_says_to_their_plugin_and_which_worker_asks(install, fake):
    found = install(fake("all", load=Logger), fake("first", load=OnTheFirst))
    recipe = SimpleNamespace(callbacks={"all": {"project": "cats"}})
    told = LoggerOptions(project="cats")
    assert found.callbacks(recipe, Path("run")) == ([(told, 0), ("first", None)], [])
    assert found.callbacks(recipe, Path("run"), worker=1) == ([(told, 1)], [])


def test_options_of_callbacks_must_be_options(install, fake):
    class Dict(Logger):
        @hookimpl
        def kzoo_callback_options(self):
            return dict

    found = install(fake("dict", load=Dict))
    assert [record.problem for record in found.broken] == [
        "TypeError: kzoo_callback_options returned <class 'dict'>; expected a subclass of kzoo.Options"
    ]


def test_a_real_distribution_is_found_and_a_broken_one_beside_it(distribution):
    distribution("bark", "import sys; sys.exit('no dogs')")
    environment = distribution("meow", MEOW)
    script = (
        "from kzoo.plugins.load import load_plugins\n"
        "for r in load_plugins().records: print(r.name, r.distribution, r.version, r.status, r.problem)\n"
        "print([item.spec.name for item in load_plugins().provided['method']])"
    )
    answer = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    lines = [line for line in answer.stdout.splitlines() if "disabled" not in line]
    assert lines == ["bark kzoo-bark 3.4 broken SystemExit: no dogs", "meow kzoo-meow 3.4 ok ", "['meow']"]
