"""What is particular to the bridge to KerasHub; what every backbone must do is in tests/test_conformance.py.

The presets are written here, with weights drawn at random: nothing is downloaded.
"""

import importlib
import shutil

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf
from kzoo_keras_hub import plugin, presets
from kzoo_keras_hub.tokens import LearnedPositions
from pydantic import ValidationError

from kzoo.errors import OptionsError
from kzoo.layers import BatchNormalization, every_layer

SPECS = {spec.name.removeprefix("keras_hub/"): spec for spec in plugin.kzoo_backbones()}
TRANSFORMER = {"patch_size": 4, "num_layers": 2, "num_heads": 2, "hidden_dim": 16}
NETWORKS = {
    "resnet": {
        "input_conv_filters": [64],
        "input_conv_kernel_sizes": [7],
        "stackwise_num_filters": [64, 64],
        "stackwise_num_blocks": [1, 2],
        "stackwise_num_strides": [1, 2],
        "block_type": "basic_block",
        "use_pre_activation": True,
    },
    "vit": {**TRANSFORMER, "image_shape": (16, 24, 3), "mlp_dim": 32, "dropout_rate": 0.5, "attention_dropout": 0.5},
    "dinov2": {
        **TRANSFORMER,
        "intermediate_dim": 32,
        "image_shape": (16, 16, 3),
        "position_embedding_shape": (24, 24, 3),
        "num_register_tokens": 2,
        "drop_path_rate": 0.5,
    },
    "dinov3": {**TRANSFORMER, "intermediate_dim": 32, "image_shape": (16, 24, 3), "num_register_tokens": 3},
}
PREFIX = {"vit": 1, "dinov2": 3, "dinov3": 4}


def build(name, input_shape, **options):
    module, _, function = SPECS[name].target.partition(":")
    return getattr(importlib.import_module(module), function)(input_shape, SPECS[name].options(**options))


def images(*shape):
    return np.random.default_rng(0).uniform(size=shape).astype("float32")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A preset of each architecture, all its weights drawn, as trained ones have no zeros and ones."""
    root, rng = tmp_path_factory.mktemp("presets"), np.random.default_rng(1)
    for name, arguments in NETWORKS.items():
        network = presets.model_class(name)(**arguments)
        for weight in network.weights:
            drawn = rng.uniform(0.5, 1.5, weight.shape) if "moving_variance" in weight.path else None
            weight.assign(0.2 * rng.normal(size=weight.shape) if drawn is None else drawn)
        network.save_to_preset(str(root / name))
    return root


def answer(name, network, pixels):
    """What KerasHub's own network makes of images in [0, 1] that were scaled as usual."""
    scale, offset = presets.scaling(None, name)
    scaled = pixels * np.float32(scale) + np.float32(offset)
    named = network.input if isinstance(network.input, dict) else None
    return np.asarray(network(scaled if named is None else dict.fromkeys(named, scaled), training=False))


@pytest.mark.parametrize(
    ("name", "size", "arguments"),
    [
        ("vit", (16, 24), {}),
        ("dinov2", (24, 24), {"image_shape": (24, 24, 3)}),
        ("dinov2", (16, 16), {}),
        ("dinov2", (32, 32), {"image_shape": (32, 32, 3)}),
        ("dinov3", (16, 24), {}),
        ("dinov3", (20, 12), {"image_shape": (20, 12, 3)}),
    ],
)
def test_transformers_return_what_kerashub_returns(folders, name, size, arguments):
    folder, pixels = str(folders / name), images(2, *size, 3)
    expected = answer(name, presets.model_class(name).from_preset(folder, **arguments), pixels)
    for shape in ((*size, 3), (None, None, 3)):
        outputs = build(name, shape, preset=folder)(pixels, training=True)  # dropout is off
        np.testing.assert_allclose(outputs["embedding"], expected[:, 0], atol=2e-5)
        np.testing.assert_allclose(outputs["tokens"], expected[:, PREFIX[name] :], atol=2e-5)


def test_resnet_returns_what_kerashub_returns(folders):
    pixels, folder = images(2, 40, 24, 3), str(folders / "resnet")
    network = keras_hub.models.ResNetBackbone.from_preset(folder)
    model = build("resnet", (None, None, 3), preset=folder)
    outputs = model(pixels)
    expected = answer("resnet", network, pixels)
    np.testing.assert_allclose(outputs["map"], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(outputs["embedding"], expected.mean((1, 2)), rtol=1e-4, atol=1e-4)
    assert {name: value.shape[1:3] for name, value in outputs.items()} == {
        "map_1": (10, 6),
        "map": (5, 3),
        "embedding": (64,),
    }
    norms = [x for x in every_layer(model) if isinstance(x, keras.layers.BatchNormalization)]
    assert {(type(norm), norm.momentum) for norm in norms} == {(BatchNormalization, 0.9)}


def test_positions_between_those_that_were_learned():
    """For a grid of another shape they are the learned ones, resized as an image."""
    layer = LearnedPositions((4, 6))
    layer.build((None, None, None, 3))
    expected = tf.image.resize(layer.table[None], (7, 5), "bicubic")
    zeros = tf.zeros((1, 7, 5, 3))
    np.testing.assert_allclose(layer(zeros), expected, atol=1e-6)
    open_sides = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, 3))])
    np.testing.assert_allclose(open_sides(zeros), expected, atol=1e-6)
    np.testing.assert_array_equal(layer(tf.zeros((1, 4, 6, 3)))[0], layer.table)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_saved_backbone_needs_no_preset(folders, name, tmp_path):
    moved = shutil.copytree(folders / name, tmp_path / "moved")
    model = build(name, (16, 16, 3), preset=str(moved))
    shutil.rmtree(moved)
    model.save(tmp_path / "model.keras")
    pixels, copy = images(2, 16, 16, 3), keras.saving.load_model(tmp_path / "model.keras")
    for output, value in model(pixels).items():
        np.testing.assert_allclose(copy(pixels)[output], value, atol=1e-5)


def test_the_images_are_scaled_as_the_preset_says(folders, tmp_path):
    folder = shutil.copytree(folders / "vit", tmp_path / "vit")
    keras_hub.layers.ViTImageConverter(scale=1 / 51, offset=(-1.0, -2.0, -3.0)).save_to_preset(str(folder))
    scale, offset = presets.scaling(str(folder), "vit")
    np.testing.assert_allclose(scale, [5.0] * 3)  # of [0, 1]
    assert offset == [-1.0, -2.0, -3.0]
    assert presets.scaling(str(folders / "vit"), "vit") == ([2.0] * 3, [-1.0] * 3)  # it says nothing: as usual
    grey = build("vit", (16, 24, 1), preset=str(folder))
    pixels = images(2, 16, 24, 1)
    colour = build("vit", (16, 24, 3), preset=str(folder))
    np.testing.assert_allclose(grey(pixels)["embedding"], colour(np.repeat(pixels, 3, axis=-1))["embedding"], atol=1e-5)


def test_presets_that_cannot_be_had_say_what_to_do(folders, tmp_path, monkeypatch):
    def refused(match, name="dinov2", **options):
        with pytest.raises(OptionsError, match=match):
            build(name, (16, 16, 3), **options)

    refused(r"holds no preset .no config.json.; set backbone.options.preset", preset=str(tmp_path / "absent"))
    refused("a ViTBackbone, not a DINOV2Backbone; set backbone.name to keras_hub/vit", preset=str(folders / "vit"))
    refused("no preset named 'dinov2_smal'; .*did you mean 'dinov2_small'", preset="dinov2_smal")
    (tmp_path / "config.json").write_text("{")
    refused("cannot be read; save the preset again", preset=str(tmp_path))
    broken = shutil.copytree(folders / "dinov2", tmp_path / "broken")
    (broken / "model.weights.h5").unlink()
    refused("could not be loaded .*; save it again with save_to_preset", preset=str(broken))

    def offline(*arguments, **settings):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(keras_hub.models.DINOV2Backbone, "from_preset", offline)
    monkeypatch.setattr(keras_hub.layers.ImageConverter, "from_preset", offline)
    refused("no route to host.*save_to_preset.*bring the folder here", preset="dinov2_small")


def test_shapes_that_cannot_work_are_refused(folders):
    with pytest.raises(OptionsError, match=r"patches of 4 do not tile images of 16x18; .* of 4, such as 16 or 20"):
        build("vit", (16, 18, 3), preset=str(folders / "vit"))
    with pytest.raises(OptionsError, match=r"grey or RGB images, not 4 channels"):
        build("resnet", (16, 16, 4), preset=str(folders / "resnet"))


def test_options_that_contradict_each_other_are_refused():
    with pytest.raises(ValidationError, match="a preset says the depth, heads of its network"):
        SPECS["vit"].options(preset="vit_base_patch16_224_imagenet", depth=2, heads=2)
    with pytest.raises(ValidationError, match="5 heads and a width of 384"):
        SPECS["vit"].options(heads=5)


def test_a_folder_is_seen_from_where_the_command_is_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    where = {name: SPECS["vit"].options(preset=name).preset for name in ("mine", "./other", "vit_x", "hf://a/b")}
    assert where == {
        "mine": str(tmp_path / "mine"),
        "./other": str(tmp_path / "other"),
        "vit_x": "vit_x",
        "hf://a/b": "hf://a/b",
    }
