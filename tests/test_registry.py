"""Names to records to code: near misses, ambiguity, and targets that cannot be imported."""

import sys
from types import ModuleType

import pytest
from pydantic import Field

from kzoo import BackboneSpec, DatasetSpec, MethodSpec, Options, build_backbone, build_method
from kzoo.errors import OptionsError, PluginError
from kzoo.plugins import registry, targets


class Temperature(Options):
    temperature: float = Field(0.1, gt=0, description="softmax temperature")
    widths: tuple[int, ...] = Field((8,), description="widths")


def method(name: str, target: str = "nowhere:M", options: type = Temperature) -> MethodSpec:
    return MethodSpec(name=name, target=target, options=options, family="f", summary="s", paper="p")


def failing():
    raise ImportError("no torch")


@pytest.fixture
def code(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module `plugin_code` whose Method and backbone answer what they were called with."""
    module = ModuleType("plugin_code")
    module.Outer = type("Outer", (), {"Method": staticmethod(lambda *args, **more: ("method", args, more))})
    module.net = lambda *args: ("net", args)
    monkeypatch.setitem(sys.modules, "plugin_code", module)
    return module


def test_listing_by_name_and_by_pattern(zoo):
    assert [spec.name for spec in registry.methods()] == ["contrast", "masked_words", "tiles"]
    assert [spec.name for spec in registry.backbones("t*")] == ["transformer"]
    assert [spec.name for spec in registry.datasets()] == [
        "digits",
        "mails",
        "photos",
        "tfds:<builder>",
        "folder:<path>",
    ]
    assert [spec.name for spec in registry.datasets("f*")] == ["folder:<path>"]


@pytest.mark.parametrize(
    ("find", "name", "message"),
    [
        ("method", "contrst", "unknown method 'contrst'; did you mean 'contrast'?"),
        ("method", "zzz", "unknown method 'zzz'; `kzoo list methods` names those installed"),
        ("method", "convnet", "unknown method 'convnet'; that is a backbone"),
        ("backbone", "convnett", "unknown backbone 'convnett'; did you mean 'convnet'?"),
        ("dataset", "digit", "unknown dataset 'digit'; did you mean 'digits'?"),
        ("dataset", "tfds:", "dataset 'tfds:' names nothing; write tfds:<builder>"),
        ("any", "digis", "unknown name 'digis'; did you mean 'digits'?"),
    ],
)
def test_unknown_names(find, name, message, zoo):
    with pytest.raises(PluginError) as error:
        getattr(registry, f"find_{find}")(name)
    assert str(error.value) == message
    assert error.value.exit_code == 3


def test_an_unknown_name_mentions_the_plugin_that_may_have_brought_it(fake, install, monkeypatch):
    install(fake("torchy", load=failing), fake("off", methods=[]))
    with pytest.raises(PluginError) as error:
        registry.find_method("byol")
    assert str(error.value) == (
        "unknown method 'byol'; plugin 'torchy' (kzoo-torchy 1.2) may bring it but is broken: ImportError: no torch; "
        "pip install --upgrade kzoo-torchy, or switch it off with KZOO_DISABLE_PLUGINS=torchy; "
        "`kzoo list methods` names those installed"
    )
    monkeypatch.setenv("KZOO_PLUGINS", "")
    install(fake("torchy", load=failing), fake("off", methods=[]))
    with pytest.raises(PluginError, match=r"^unknown method 'byol'; switched off: off, torchy; `kzoo"):
        registry.find_method("byol")


def test_a_name_of_two_plugins_is_refused_and_all_others_work(fake, install):
    install(fake("one", methods=[method("same"), method("mine")]), fake("two", methods=[method("same")]))
    assert [spec.name for spec in registry.methods()] == ["mine"]
    for find in (registry.find_method, registry.find_any):
        with pytest.raises(PluginError) as error:
            find("same")
        assert str(error.value) == (
            "method 'same' is brought by plugin 'one' (kzoo-one 1.2) and plugin 'two' (kzoo-two 1.2); "
            "keep one: KZOO_DISABLE_PLUGINS=one or KZOO_DISABLE_PLUGINS=two"
        )
    assert registry.find_method("mine").name == "mine"


def test_switching_one_of_them_off_settles_it(fake, install, monkeypatch):
    entries = [fake(name, methods=[method("same", f"{name}:M")]) for name in ("one", "two")]
    install()
    monkeypatch.setenv("KZOO_DISABLE_PLUGINS", "one")
    install(*entries)
    assert registry.find_method("same").target == "two:M"


def test_datasets_that_need_no_plugin(install):
    install()
    assert registry.find_dataset("tfds:mnist").target == "kzoo.data.prepared:tfds_source"
    assert registry.find_dataset("tfds:mnist").splits == ()
    assert registry.find_dataset("folder:/some/where:else").target == "kzoo.folder.source:folder_source"
    assert registry.provider(registry.find_dataset("folder:x")) is None


def tales(name: str) -> DatasetSpec:
    return DatasetSpec(name=name, target="plugin_code:tales", options=Temperature, summary="s", modality="text")


def test_a_plugin_brings_datasets_that_are_named_by_a_prefix(fake, install, code):
    code.tales = lambda *args: args
    spec = tales("tales:<path>")
    install(fake("mine", datasets=[spec, DatasetSpec(name="zebras", target="a:b", options=Options, summary="s")]))
    listed = ["zebras", "tfds:<builder>", "folder:<path>", "tales:<path>"]
    assert [spec.name for spec in registry.datasets()] == listed
    assert registry.dataset_prefixes() == listed[1:]
    assert registry.find_dataset("tales:/some/where:else") is spec
    assert registry.find_any("tales:x") == [spec]
    opened = targets.open_dataset("tales:/some/where:else", "test", temperature=0.5)
    assert opened == ("/some/where:else", "test", Temperature(temperature=0.5))
    with pytest.raises(PluginError, match=r"^dataset 'tales:' names nothing; write tales:<path>$"):
        registry.find_dataset("tales:")
    with pytest.raises(PluginError, match=r"^unknown dataset 'tails:x'"):
        registry.find_dataset("tails:x")


def test_a_prefix_of_two_plugins_or_of_kzoo_is_refused(fake, install):
    install(fake("one", datasets=[tales("tales:<path>")]), fake("two", datasets=[tales("tales:<file>")]))
    assert registry.dataset_prefixes() == ["tfds:<builder>", "folder:<path>"]
    with pytest.raises(PluginError, match=r"^dataset 'tales:x' is brought by plugin 'two' .* and plugin 'one' "):
        registry.find_dataset("tales:x")
    for name in ("folder:<path>", "tales:path", "Tales:<path>"):
        [record] = install(fake("one", datasets=[tales(name)])).broken
        assert record.problem.endswith("expected lower_snake_case, or family/name, or prefix:<what>")
    [record] = install(fake("one", methods=[method("tales:<path>")])).broken
    assert record.problem.endswith("expected lower_snake_case, or family/name")


def test_resolve_follows_dots_and_names_plugin_target_and_remedy(fake, install, code):
    specs = [
        method("good", "plugin_code:Outer.Method"),
        method("no_module", "not_there_at_all:M"),
        method("no_class", "plugin_code:Misspelt"),
    ]
    install(fake("mine", methods=specs))
    assert targets.resolve(specs[0]) is code.Outer.Method
    for spec, why in (
        (specs[1], "ModuleNotFoundError: No module named 'not_there_at_all'"),
        (specs[2], "AttributeError: module 'plugin_code' has no attribute 'Misspelt'"),
    ):
        with pytest.raises(PluginError) as error:
            targets.resolve(spec)
        assert str(error.value) == (
            f"'{spec.name}' of plugin 'mine' (kzoo-mine 1.2) cannot be imported from '{spec.target}': {why}; "
            "pip install --upgrade kzoo-mine"
        )


def test_a_module_that_exits_while_it_is_resolved_does_not_end_the_process(fake, install, tmp_path, monkeypatch):
    (tmp_path / "exits_on_import.py").write_text("raise SystemExit(0)")
    monkeypatch.syspath_prepend(tmp_path)
    spec = method("leaves", "exits_on_import:M")
    install(fake("mine", methods=[spec]))
    with pytest.raises(PluginError, match="SystemExit: 0"):
        targets.resolve(spec)


def test_build_method_checks_the_options_and_calls_the_class(fake, install, code):
    install(fake("mine", methods=[method("good", "plugin_code:Outer.Method")]))
    built = build_method("good", backbone="a backbone", data="facts", temperature=0.2, widths=[4, 2])
    called, (backbone, options), more = built
    assert (called, backbone, more) == ("method", "a backbone", {"data": "facts", "name": "good"})
    assert options == Temperature(temperature=0.2, widths=(4, 2))


def test_build_backbone_checks_the_options_and_calls_the_function(fake, install, code):
    spec = BackboneSpec(name="net", target="plugin_code:net", options=Temperature, family="f", summary="s")
    install(fake("mine", backbones=[spec]))
    assert build_backbone("net", input_shape=(8, 8, 3)) == ("net", ((8, 8, 3), Temperature()))


def test_wrong_options_are_told_all_at_once(fake, install, code):
    install(fake("mine", methods=[method("good", "plugin_code:Outer.Method")]))
    with pytest.raises(OptionsError) as error:
        build_method("good", backbone=None, temperature=-1, width=[4])
    assert error.value.problems == [
        "good: temperature: should be greater than 0; received -1",
        "good: width: unknown key; did you mean 'widths'?",
    ]
    assert error.value.exit_code == 2


def test_an_options_class_that_pydantic_cannot_use_is_the_plugins_fault(fake, install):
    class Unusable(Options):
        thing: "NotDefinedAnywhere"  # noqa: F821

    spec = method("good", options=Unusable)
    install(fake("mine", methods=[spec]))
    with pytest.raises(
        PluginError, match=r"^'good' of plugin 'mine' \(kzoo-mine 1.2\) has options that cannot be used"
    ):
        targets.validate_options(spec, {})
