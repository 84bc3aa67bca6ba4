"""What a saved file names is found after `import kzoo`, whichever plugin brings it."""

import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import kzoo
from kzoo import BackboneSpec, Options
from kzoo.errors import PluginError
from kzoo.plugins import loading

CODE = """
import keras

@keras.saving.register_keras_serializable(package="{package}")
class Double(keras.layers.Layer):
    def call(self, x):
        return 2 * x

@keras.saving.register_keras_serializable(package="{package}")
class Sevens(keras.initializers.Initializer):
    def __call__(self, shape, dtype=None, **kwargs):
        return 7 * keras.ops.ones(shape, dtype)

@keras.saving.register_keras_serializable(package="{package}")
def halve(x):
    return x / 2
"""


@pytest.fixture
def stranger(fake, install, tmp_path, monkeypatch, request):
    """stranger(package): a plugin is installed whose backbone's module registers some of that package on import."""
    monkeypatch.syspath_prepend(tmp_path)
    module = f"kzoo_{request.node.name.partition('[')[0]}"

    def put(package="", code=CODE):
        (tmp_path / f"{module}.py").write_text(code.format(package=package or module))
        spec = BackboneSpec(name="net", target=f"{module}:Double", options=Options, family="s", summary="A net")
        install(fake(module.removeprefix("kzoo_"), backbones=[spec]))
        assert module not in sys.modules
        return package or module

    before = dict(keras.saving.get_custom_objects())
    yield put
    keras.saving.get_custom_objects().clear()
    keras.saving.get_custom_objects().update(before)
    sys.modules.pop(module, None)


def _config(package, name):
    return {"module": "m", "class_name": name, "registered_name": f"{package}>{name}", "config": {}}


@pytest.mark.parametrize("package", ["", "of_another_library"])
def test_layer_initialiser_and_function_of_a_plugin_are_found_without_an_import(package, stranger):
    package = stranger(package)
    function = {"module": "builtins", "class_name": "function", "config": f"{package}>halve"}
    config = {"units": 1, "kernel_initializer": _config(package, "Sevens"), "activation": function}
    dense = keras.saving.deserialize_keras_object({"module": "keras.layers", "class_name": "Dense", "config": config})
    np.testing.assert_array_equal(dense(np.ones((1, 2), "float32")), [[7.0]])  # (7 + 7) / 2
    double = keras.saving.deserialize_keras_object(_config(package, "Double"))
    np.testing.assert_array_equal(double(np.ones((1, 1), "float32")), [[2.0]])


def test_what_keras_looks_up_in_a_table_of_its_own_is_found_too(stranger):
    package = stranger()
    np.testing.assert_array_equal(keras.initializers.get(_config(package, "Sevens"))((2,)), [7.0, 7.0])


def test_what_no_plugin_registers_is_told_by_keras_as_ever(stranger):
    package = stranger()
    for unknown in (_config(package, "Nothing"), _config("nobody", "Double")):
        with pytest.raises(TypeError, match="Could not locate class"):
            keras.saving.deserialize_keras_object(unknown)


def test_a_class_that_the_call_gives_comes_before_any_import(stranger):
    package = stranger()

    class Double(keras.layers.Layer):
        pass

    found = keras.saving.deserialize_keras_object(
        _config(package, "Double"), custom_objects={f"{package}>Double": Double}
    )
    assert type(found) is Double
    assert package not in sys.modules


def test_a_plugin_that_is_switched_off_or_cannot_be_imported_is_told(stranger, install, fake, monkeypatch):
    package = stranger(code="import nowhere_at_all")
    with pytest.raises(PluginError, match=r"'net' of plugin .* cannot be imported .*nowhere_at_all"):
        keras.saving.deserialize_keras_object(_config(package, "Double"))
    monkeypatch.setenv("KZOO_DISABLE_PLUGINS", package.removeprefix("kzoo_"))
    kzoo.plugins.load.load_plugins.cache_clear()
    with pytest.raises(PluginError, match=r"holds a model of plugin .*: switched off by KZOO_DISABLE_PLUGINS"):
        keras.saving.deserialize_keras_object(_config(package, "Double"))


def test_every_module_of_kzoo_that_registers_something_is_known():
    root = Path(kzoo.__file__).parent
    sources = {path: path.read_text() for path in root.rglob("*.py")}
    registering = {
        ".".join(path.relative_to(root.parent).with_suffix("").parts[:2])  # a room imports all of its modules
        for path, source in sources.items()
        if re.search(r"^@keras\.saving\.register", source, re.MULTILINE)
    }
    assert registering == set(loading._OWN)


def test_a_plain_model_on_a_backbone_of_kzoo_loads_in_a_process_that_imported_keras_first(tmp_path):
    """The other order, and every bundled method and backbone: the conformance suite's fresh process."""
    vit = kzoo.build_backbone("vit_tiny", (16, 16, 3), patch_size=8, depth=1)
    keras.Sequential([keras.Model(vit.input, vit.output["embedding"]), keras.layers.Dense(2)]).save(
        tmp_path / "m.keras"
    )
    load = f"keras.saving.load_model({str(tmp_path / 'm.keras')!r})"
    script = (
        "import sys, keras\n"
        f"try: {load}\nexcept TypeError: print('not yet')\n"
        "import kzoo\n"
        "print(*[name for name in sys.modules if name.startswith('kzoo_')])\n"
        f"{load}\n"
        "print('kzoo_backbones.vit' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert answer.stdout.splitlines() == ["not yet", "", "True"], answer.stderr[-2000:]
