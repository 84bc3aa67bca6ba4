"""Exports in every format: each is read by its own runtime, and one that returns something else is found out."""

import io
import json
import shutil
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from kzoo import FormatSpec
from kzoo.cli.app import main
from kzoo.errors import ExportError, PluginError, RecipeError
from kzoo.export import card, contract, proof
from kzoo.export.layout import METADATA, RECORDED
from kzoo.export.write import export_backbone
from kzoo.layers import gelu
from kzoo.plugins import registry
from kzoo.plugins.formats import FORMATS
from kzoo.recipe.load import load
from kzoo.use import verify as verifying

RECIPE = Path(__file__).parents[1] / "recipes" / "quickstart.yaml"
NAMES = [spec.name for spec in FORMATS]


def make_backbone(seed):
    keras.utils.set_random_seed(seed)
    image = keras.Input((12, 12, 3), name="image")
    x = keras.layers.Conv2D(5, 3, activation="relu")(image)
    return keras.Model(image, {"embedding": keras.layers.GlobalAveragePooling2D()(x), "map": x})


@keras.saving.register_keras_serializable("test_formats")
class Awkward(keras.layers.Layer):
    """What converters stumbled over: a constant captured in tracing, exact GELU, and one head of attention."""

    def build(self, shape):
        self.shift, self.dense = tf.constant([0.5] * shape[-1]), keras.layers.Dense(shape[-1])
        self.dense.build((None, None, shape[-1]))

    def call(self, x):
        batch, width = keras.ops.shape(x)[0], x.shape[-1]
        x = self.dense(keras.ops.reshape(gelu(x + self.shift), (batch, -1, width)))
        heads = keras.ops.transpose(keras.ops.reshape(x, (batch, -1, 1, width)), (0, 2, 1, 3))
        alike = keras.ops.softmax(heads @ keras.ops.transpose(heads, (0, 1, 3, 2)))
        return keras.ops.reshape(keras.ops.transpose(alike @ heads, (0, 2, 1, 3)), (batch, -1, width))


def make_awkward():
    """A backbone of the same shapes, with a grouped convolution besides, which Keras compiles by XLA."""
    keras.utils.set_random_seed(2)
    image = keras.Input((12, 12, 3), name="image")
    x = keras.layers.Conv2D(10, 3, strides=2, activation="gelu")(image)
    x = Awkward()(keras.layers.Conv2D(5, 3, groups=5)(x))
    return keras.Model(image, {"embedding": keras.layers.GlobalAveragePooling1D()(x)})


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    facts = {
        "method": {"name": "simclr", "summary": "Contrast two views", "paper": "Chen et al. 2020", "labels": False},
        "trained_on": {"dataset": "digits", "split": "train", "examples": 4000, "licence": "CC0"},
    }
    return export_backbone(
        make_backbone(1), tmp_path_factory.mktemp("exports"), name="tiny", metadata=facts, formats=NAMES
    )


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Of another network."""
    return export_backbone(make_awkward(), tmp_path_factory.mktemp("other"), name="tiny", metadata={}, formats=NAMES)


@pytest.fixture
def copy(exported, tmp_path):
    return Path(shutil.copytree(exported, tmp_path / "tiny" / "1"))


def say(place, **how):
    console = Console(file=io.StringIO(), width=80)
    found = verifying.verify(place, console, **how)
    return found, console.file.getvalue()


def told(folder):
    return json.loads((folder / METADATA).read_text())


# ---- what is written -------------------------------------------------------------------------------------------------


def test_all_formats_lie_in_one_folder_and_the_contract_says_how_near_they_are(exported):
    found = told(exported)
    assert list(found["formats"]) == NAMES == ["saved_model", "litert", "onnx", "openvino"]
    for spec in FORMATS:
        assert (exported / spec.file).is_file()
        assert found["formats"][spec.name]["file"] == spec.file
        assert 0 <= found["formats"][spec.name]["largest_error"] <= proof.LIMIT == 1e-4
    files = {path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file()}
    assert found["sha256"].keys() == found["bytes"].keys() == files - {"contract.json"}
    assert found["bytes"]["README.md"] == (exported / "README.md").stat().st_size
    takes = {"type": "uint8", "shape": [None, 12, 12, 3]}
    assert found["signatures"]["serving_default"]["inputs"] == {"image": takes}


def test_what_converters_stumble_over_is_in_every_format(other):
    found = told(other)["formats"]
    assert not [f"{name}: {one['refused']}" for name, one in found.items() if "refused" in one]
    assert {name for name, one in found.items() if one["largest_error"] <= 1e-5} == set(NAMES)


def test_what_is_recorded_is_what_the_backbone_returns(exported):
    with np.load(exported / RECORDED, allow_pickle=False) as file:
        pixels, embedding = file["image"], file["embedding"]
    right = make_backbone(1)(pixels.astype("float32") / 255, training=False)["embedding"]
    np.testing.assert_allclose(embedding, right, atol=1e-6)
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize("name", NAMES)
def test_a_format_that_returns_something_else_is_found_out(name, exported, other, tmp_path):
    """Its own file beside the other network's answers."""
    spec = registry.find_format(name)
    folder = Path(shutil.copytree(exported, tmp_path / "mixed"))
    assert proof.prove(folder, spec, ["image"]) <= 1e-4
    shutil.copy(other / RECORDED, folder / RECORDED)
    with pytest.raises(ExportError, match=rf"{name}: differs from the recorded answers by [\d.e+-]+, more than 0.0001"):
        proof.prove(folder, spec, ["image"])


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_none_is_told_in_one_line(name, copy):
    spec = registry.find_format(name)
    (copy / spec.file).write_bytes(b"no model")
    with pytest.raises(ExportError, match=f"^{name}: {spec.runtime} cannot read it: ") as error:
        proof.prove(copy, spec, ["image"])
    assert "\n" not in str(error.value)


def test_an_answer_that_is_no_number_or_of_another_shape_is_wrong(exported, tmp_path):
    spec = registry.find_format("onnx")
    for broken in (np.full((3, 5), np.nan, "float32"), np.zeros((3, 4), "float32")):
        folder = Path(shutil.copytree(exported, tmp_path / str(broken.shape[1])))
        with np.load(folder / RECORDED) as file:
            pixels = file["image"]
        np.savez(folder / RECORDED, image=pixels, embedding=broken)
        with pytest.raises(ExportError, match="differs from the recorded answers by no finite number"):
            proof.prove(folder, spec, ["image"])


READER = """
import importlib
{line}
def read(file):
    value = float(open(file).read())
    return lambda inputs: {{"embedding": inputs["image"].reshape(len(inputs["image"]), -1)[:, :5] * 0 + value}}
"""


def write_value(exportable, file):
    file.write_text("0.5")
    return {"note": "half"}


def fail_halfway(exportable, file):
    file.write_text("0.5")
    (file.parent / "more").mkdir()
    (file.parent / "more" / "weights").touch()
    raise ValueError("no such operation:\nFFT")


def plain(name, target, reader="half_reader:read"):
    return FormatSpec(
        name=name,
        target=f"{__name__}:{target}",
        reader=reader,
        file=f"{name}.txt",
        runtime="numpy",
        summary="A value",
        install="numpy",
    )


@pytest.fixture
def brought(fake, install, tmp_path, monkeypatch):
    """A plugin's formats, whose reader is a module that lies in a folder of its own."""

    def bring(line, *specs):
        (tmp_path / "lib").mkdir()
        (tmp_path / "lib" / "half_reader.py").write_text(READER.format(line=line))
        monkeypatch.syspath_prepend(str(tmp_path / "lib"))
        monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
        install(fake("half", formats=list(specs)))

    return bring


def test_a_plugin_brings_a_format_and_what_cannot_be_had_says_why_and_leaves_nothing(brought, tmp_path):
    brought("", plain("half", "write_value"), plain("broken", "fail_halfway"))
    assert [spec.name for spec in registry.formats()] == [*NAMES, "broken", "half"]
    backbone = make_backbone(1)
    for layer in backbone.layers[1:2]:
        layer.kernel.assign(0 * layer.kernel)
        layer.bias.assign(0 * layer.bias + 0.5)  # so every embedding is 0.5
    path = export_backbone(backbone, tmp_path, name="x", metadata={}, formats=["half", "broken", "onnx"])
    found = told(path)["formats"]
    assert found["half"] == {
        "file": "half.txt",
        "runtime": f"numpy {np.__version__}",
        "limit": 1e-4,
        "largest_error": 0.0,
        "note": "half",
    }
    assert found["broken"] == {"refused": "ValueError: no such operation: FFT"}
    assert found["onnx"]["largest_error"] <= 1e-4
    assert not (path / "saved_model.pb").exists()  # was not asked for
    assert not (path / "broken.txt").exists()
    assert not (path / "more").exists()
    assert "- `broken`: ValueError: no such operation: FFT" in (path / "README.md").read_text()
    with pytest.raises(ExportError, match="broken: ValueError: no such operation: FFT"):
        export_backbone(backbone, tmp_path, name="none", metadata={}, formats=["broken"])
    assert list((tmp_path / "none").iterdir()) == []


@pytest.mark.parametrize("library", ["kzoo", "keras", "tensorflow"])
def test_a_reader_has_neither_kzoo_nor_keras_nor_tensorflow(library, brought, exported):
    brought(f"importlib.import_module('{library}')", plain("half", "write_value"))
    spec = registry.find_format("half")
    with pytest.raises(
        ExportError, match=f"half: numpy cannot read it: ModuleNotFoundError: import of {library} halted"
    ):
        proof.prove(exported, spec, ["image"])


def test_a_format_is_named_in_a_recipe_and_on_the_command_line(capsys, monkeypatch, tmp_path):
    with pytest.raises(PluginError, match=r"unknown format 'onx'; did you mean 'onnx'\?"):
        registry.find_format("onx")
    with pytest.raises(PluginError, match=r"export\.formats\.1: unknown format 'onx'; did you mean 'onnx'\?$"):
        load(RECIPE, ["export.formats=[saved_model, onx]"])
    assert load(RECIPE, ["export.formats=[onnx, litert]"]).export.formats == ("onnx", "litert")
    monkeypatch.setattr("kzoo.plugins.formats.metadata.version", lambda name: {"onnxruntime": "1"}[name])
    monkeypatch.setattr("kzoo.plugins.formats.metadata.PackageNotFoundError", KeyError)
    with pytest.raises(SystemExit) as stopped:
        main(["export", str(tmp_path), "--format", "onnx"])
    assert stopped.value.code == 3
    assert capsys.readouterr().err == "error: format 'onnx' needs onnx: pip install 'kzoo[onnx]'\n"


# ---- the card --------------------------------------------------------------------------------------------------------


def test_the_card_tells_what_is_known_and_no_more(exported, other):
    text = (exported / "README.md").read_text()
    assert "| examples | 4,000 |" in text
    assert "| licence of the data | CC0 |" in text
    assert "`simclr` (Contrast two views; Chen et al. 2020)" in text
    assert "| `onnx` | `model.onnx` | onnxruntime " in text
    assert "## What it is worth" not in text  # nothing was evaluated
    assert "licence" not in (other / "README.md").read_text()
    assert "None" not in text


def test_the_lines_of_python_in_the_card_work(exported, monkeypatch):
    """Each block, run as it stands; what it calls `embedding` is what was recorded."""
    monkeypatch.chdir(exported)
    with np.load(RECORDED) as file:
        pixels, right = file["image"], file["embedding"]
    blocks = (exported / "README.md").read_text().split("```python\n")[1:]
    assert len(blocks) == len(NAMES) + 1
    for block in blocks[:-1]:
        names = {"image": pixels}
        exec(block.partition("```")[0], names)
        np.testing.assert_allclose(names["embedding"], right, atol=1e-4)


def test_the_card_shows_the_table_beside_the_untrained_backbone(exported):
    def report(accuracy, rank):
        return {
            "knn": {"test_accuracy": accuracy, "k": 20},
            "embedding": {"width": 5, "effective_rank": rank},
            "labelled_test_examples": 1000,
            "labelled_train_examples": 4000,
            "classes": 10,
            "chance": {"accuracy": 0.1, "way": "any class at random"},
        }

    verdict = {"knn": {"trained": 0.8, "untrained": 0.7, "difference": 0.1, "says": "better than untrained"}}
    data = {"train": "digits", "test": "digits", "held_out": True}
    found = {"trained": report(0.8, 3), "untrained": report(0.7, 2), "verdict": verdict, "data": data}
    text = card.render({**told(exported), "evaluation": found}, ["figures/embedding.png"])
    assert "| 20 nearest neighbours | 80.0% | 70.0% | +10.0 | better than untrained |" in text
    assert "Accuracy on 1,000 test examples of `digits`, beside the same backbone untrained." in text
    assert "10 classes; chance is 10.0% (any class at random)." in text
    assert "![embedding](figures/embedding.png)" in text


# ---- the contract, and verify ----------------------------------------------------------------------------------------


def test_a_sound_export_is_proven(exported):
    found, said = say(exported.parent)  # the newest version of it
    assert {check["name"]: check["verdict"] for check in found["checks"]} == dict.fromkeys(
        ["files", "operations", *NAMES], "proven"
    )
    assert found["digest"] == told(exported)["digest"]
    assert "proven in " in said
    assert max(map(len, said.splitlines()[:12])) <= 80


@pytest.mark.parametrize(
    "name", ["contract.json", "README.md", "recorded.npz", "model.onnx", "model.bin", "variables/variables.index"]
)
def test_a_byte_changed_in_any_file_is_refused_by_name(name, copy):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(ExportError, match=rf"{name}: is not the file that was written"):
        say(copy)
    assert not contract.is_whole(copy)


def test_a_line_break_more_in_the_contract_is_refused(copy):
    (copy / METADATA).write_text((copy / METADATA).read_text() + "\n")
    with pytest.raises(ExportError, match=r"contract.json: is not the file that was written"):
        contract.read_contract(copy)


def test_a_missing_file_and_a_strangers_are_named(copy):
    (copy / "model.tflite").unlink()
    (copy / "saved_model.pbtxt").write_text("what TensorFlow might read in place of the other")
    with pytest.raises(ExportError) as error:
        say(copy)
    lines = [line.removeprefix(f"{copy}: ") for line in str(error.value).splitlines()]
    assert lines == ["model.tflite: missing", "saved_model.pbtxt: is not of this export"]


def test_answers_that_were_forged_with_their_sums_are_still_wrong(copy, other):
    """Who can write files can write sums: then the formats tell."""
    shutil.copy(other / RECORDED, copy / RECORDED)
    facts = {key: value for key, value in told(copy).items() if key not in ("bytes", "sha256", "digest")}
    contract.write_contract(copy, facts)
    with pytest.raises(ExportError) as error:
        say(copy)
    assert [line.split(": ")[1] for line in str(error.value).splitlines()] == NAMES


def test_a_runtime_that_is_missing_is_said_and_one_is_enough(copy, monkeypatch):
    monkeypatch.setattr(verifying, "runtime_version", lambda spec: "1.0" if spec.name == "onnx" else "")
    found, said = say(copy)
    verdicts = {check["name"]: check["verdict"] for check in found["checks"]}
    assert verdicts["onnx"] == "proven"
    assert verdicts["litert"] == verdicts["openvino"] == verdicts["saved_model"] == "not proven"
    assert "kzoo[litert]" in " ".join(said.split())
    monkeypatch.setattr(verifying, "runtime_version", lambda spec: "")
    with pytest.raises(PluginError, match=r"no format could be proven: saved_model: tensorflow is not installed"):
        say(copy)


def test_what_is_no_export_is_a_wrong_call(tmp_path):
    with pytest.raises(RecipeError, match=r"is no export, it has no contract\.json"):
        say(tmp_path)
