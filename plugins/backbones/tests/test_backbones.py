import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from kzoo_backbones import plugin, vit
from kzoo_backbones.options import (
    ConvNet4Options,
    ResNetOptions,
    SmallResNetOptions,
    VisionTransformerOptions,
)
from kzoo_backbones.resnet import resnet18, resnet50, small_resnet
from pydantic import ValidationError

from kzoo import patches
from kzoo.errors import OptionsError, RecipeError
from kzoo.layers import TransformerBlock

SPECS = {spec.name: spec for spec in plugin.kzoo_backbones()}
# Small settings for what does not depend on width and depth.
SMALL = {
    **{name: {"width": 4} for name in ("resnet18", "resnet34", "resnet50", "small_resnet", "convnet4")},
    **{name: {"depth": 1, "patch_size": 4} for name in ("vit_tiny", "vit_small", "vit_base")},
}


def build(name, input_shape, **options):
    spec = SPECS[name]
    module, _, function = spec.target.partition(":")
    return getattr(sys.modules.get(module) or __import__(module, fromlist=["_"]), function)(
        input_shape, spec.options(**options)
    )


def images(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype("float32")


@pytest.mark.parametrize("name", SPECS)
def test_outputs_and_shapes_are_those_of_the_record(name):
    for shape in [(28, 28, 1), (32, 32, 3), (64, 64, 3)]:
        model = build(name, shape, **SMALL[name])
        outputs = model(images(2, *shape))
        assert set(outputs) == set(SPECS[name].offers)
        for key, value in outputs.items():
            assert tuple(value.shape[1:]) == model.output[key].shape[1:]
        if "map" in outputs:
            np.testing.assert_allclose(outputs["embedding"], np.mean(outputs["map"], axis=(1, 2)), rtol=1e-5, atol=1e-5)
            sides = [outputs[f"map_{level}"].shape[1] for level in range(1, len(outputs) - 1)]
            assert sides == sorted(sides, reverse=True)
            assert outputs["map"].shape[1] < sides[-1]
        else:
            assert outputs["tokens"].shape[1] == (shape[0] // 4) * (shape[1] // 4)


@pytest.mark.parametrize("name", SPECS)
def test_smallest_size_of_the_record_is_accepted(name):
    side = SPECS[name].min_size
    options = {key: value for key, value in SMALL[name].items() if key != "patch_size"}
    assert np.all(np.isfinite(build(name, (side, side, 3), **options)(images(1, side, side, 3))["embedding"]))


@pytest.mark.parametrize("name", SPECS)
def test_gradient_reaches_every_trainable_weight(name):
    model = build(name, (32, 32, 3), **SMALL[name])
    with tf.GradientTape() as tape:
        outputs = model(images(4, 32, 32, 3), training=True)
        target = outputs.get("map", outputs.get("tokens"))
        weights = tf.random.stateless_normal(tf.shape(target), seed=[0, 1])
        loss = tf.reduce_sum(target * weights) + tf.reduce_sum(tf.square(outputs["embedding"]))
    variables = [variable.value for variable in model.trainable_variables]
    for variable, gradient in zip(model.trainable_variables, tape.gradient(loss, variables), strict=True):
        assert gradient is not None, variable.path
        assert np.any(np.array(gradient) != 0), variable.path


@pytest.mark.parametrize("name", SPECS)
def test_reload_gives_the_same_outputs(name, tmp_path):
    shape = (32, 32, 3)
    normalise = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)}
    model = build(name, shape, **SMALL[name], **normalise)
    x = images(2, *shape)
    model(x, training=True)  # moves the moving statistics away from their start
    want = model(x)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    again, fresh = keras.saving.load_model(tmp_path / "model.keras"), build(name, shape, **SMALL[name], **normalise)
    assert not np.allclose(fresh(x)["embedding"], want["embedding"], atol=1e-4)
    fresh.load_weights(tmp_path / "model.weights.h5")
    for other in (again, fresh):
        got = other(x)
        assert set(got) == set(want)
        for key in want:
            np.testing.assert_allclose(got[key], want[key], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "parameters"),
    [
        ("resnet18", {"stem": "imagenet"}, 11_176_512),  # torchvision's, without the classifier
        ("resnet34", {"stem": "imagenet"}, 21_284_672),
        ("resnet50", {"stem": "imagenet"}, 23_508_032),
        ("resnet18", {}, 11_168_832),  # a 3x3 stem has 64 * 3 * (49 - 9) weights less
        # stem 928, blocks of 18560, 57728 and 230144
        ("small_resnet", {}, 307_360),
        ("convnet4", {}, 112_832),  # 9 * 64 * (3 + 3 * 64) kernels and 4 * 128 of the normalisations
        ("vit_tiny", {}, 5_348_352),
        ("vit_small", {}, 21_590_016),  # timm's without classifier and learned positions
        ("vit_base", {}, 85_647_360),
    ],
)
def test_parameter_counts(name, options, parameters):
    model = build(name, (64, 64, 3), **options)
    assert sum(int(np.prod(variable.shape)) for variable in model.trainable_variables) == parameters


def test_convolutional_backbones_take_any_size():
    for name in ("small_resnet", "convnet4"):
        model = build(name, (None, None, 1), **SMALL[name])
        assert [model(images(1, side, 40, 1))["embedding"].shape for side in (24, 33)] == [(1, SMALL_WIDTH[name])] * 2


SMALL_WIDTH = {"small_resnet": 16, "convnet4": 4}


def test_stems_differ_by_a_factor_of_four():
    sides = {
        stem: resnet18((64, 64, 3), ResNetOptions(stem=stem, width=4)).output["map_1"].shape[1]
        for stem in ("cifar", "imagenet")
    }
    assert sides == {"cifar": 64, "imagenet": 16}


def test_strided_layers_pad_one_pixel_on_each_side():
    model = small_resnet((8, 8, 1), SmallResNetOptions(width=4))
    conv = model.get_layer("stage_2_block_1_1_conv")
    parts = keras.Model(model.inputs, [model.get_layer("stage_1_block_1_relu").output, conv.output])
    before, after = (np.array(part) for part in parts([images(1, 8, 8, 1)]))
    assert after.shape == (1, 4, 4, 8)
    # the corner's window starts one pixel outside; Keras' "same" would start at the corner
    corner = np.einsum("hwc,hwcd->d", before[0, :2, :2], conv.kernel.numpy()[1:, 1:])
    np.testing.assert_allclose(after[0, 0, 0], corner, rtol=1e-4, atol=1e-5)


def test_zero_init_residual_makes_blocks_the_identity():
    model = small_resnet((16, 16, 3), SmallResNetOptions(width=4, zero_init_residual=True))
    stem = keras.Model(model.inputs, model.get_layer("stem_relu").output)
    x = images(1, 16, 16, 3)
    np.testing.assert_allclose(model(x)["map_1"], stem([x]), atol=1e-6)
    plain = small_resnet((16, 16, 3), SmallResNetOptions(width=4))
    assert not np.allclose(plain(x)["map_1"], keras.Model(plain.inputs, plain.get_layer("stem_relu").output)([x]))


def test_heads_and_class_token_of_a_vit():
    """MoCo v3's ViT-S has 12 heads of 32, not 6 of 64; the same number of weights."""
    model = build("vit_small", (32, 32, 3), depth=1, patch_size=16, heads=12, class_token_std=1e-6)
    assert model.get_layer("block_1").heads == 12
    assert 0 < float(np.std(model.get_layer("class_token").token)) < 2e-6
    plain = build("vit_small", (32, 32, 3), depth=1, patch_size=16)
    assert plain.get_layer("block_1").heads == 6
    assert float(np.std(plain.get_layer("class_token").token)) == pytest.approx(0.02, rel=0.2)
    assert model.count_params() == plain.count_params()


class TestNorm:
    def test_layer_normalisation_sees_one_example(self):
        """In training, the rest of the batch changes an example's features only under batch normalisation."""
        x = images(4, 16, 16, 3)
        moved = {}
        for norm in ("batch", "layer", "none"):
            model = small_resnet((None, None, 3), SmallResNetOptions(width=4, norm=norm))
            whole, part = (model(some, training=True)["embedding"] for some in (x, x[:2]))
            moved[norm] = float(np.abs(whole[:2] - part).max())
        assert moved["batch"] > 1e-3
        assert moved["layer"] < 1e-5
        assert moved["none"] < 1e-5

    def test_layer_normalisation_is_over_all_units_of_a_layer(self):
        model = small_resnet((8, 8, 3), SmallResNetOptions(width=4, norm="layer"))
        normalised = np.array(keras.Model(model.inputs, model.get_layer("stem_norm").output)([images(3, 8, 8, 3)]))
        np.testing.assert_allclose(normalised.mean(axis=(1, 2, 3)), np.zeros(3), atol=1e-5)
        np.testing.assert_allclose(normalised.std(axis=(1, 2, 3)), np.ones(3), atol=1e-3)

    def test_none_has_biases_instead(self):
        model = small_resnet((8, 8, 3), SmallResNetOptions(width=4, norm="none"))
        kinds = {type(layer).__name__ for layer in model.layers}
        assert not kinds & {"BatchNormalization", "GroupNormalization"}
        assert all(layer.use_bias for layer in model.layers if isinstance(layer, keras.layers.Conv2D))

    def test_without_normalisation_blocks_begin_as_their_shortcuts(self):
        """ResNet-50, where each branch would double the square of what goes by, 16 times over."""
        x = images(2, 64, 64, 3)
        options = ResNetOptions(width=8, norm="none", zero_init_residual=True)
        outputs = resnet50((None, None, 3), options)(x)
        assert 0.1 < float(np.std(outputs["map"])) / float(np.std(outputs["map_1"])) < 10
        plain = resnet50((None, None, 3), ResNetOptions(width=8, norm="none"))(x)
        assert float(np.std(plain["map"])) / float(np.std(plain["map_1"])) > 20


def test_normalisation_is_inside():
    x = images(2, 16, 16, 2)
    mean, std = np.array([0.2, 0.6], "float32"), np.array([0.5, 0.25], "float32")
    plain = build("convnet4", (16, 16, 2))
    inside = build("convnet4", (16, 16, 2), mean=tuple(mean), std=tuple(std))
    inside.set_weights(plain.get_weights())
    np.testing.assert_allclose(inside(x)["embedding"], plain((x - mean) / std)["embedding"], atol=1e-5)


def test_options_of_the_normalisation_are_checked():
    with pytest.raises(ValidationError, match="go together"):
        ConvNet4Options(mean=(0.5,))
    with pytest.raises(ValidationError, match="2 channels and std 1"):
        ConvNet4Options(mean=(0.5, 0.5), std=(0.5,))
    with pytest.raises(ValidationError, match="greater than 0"):
        ConvNet4Options(mean=(0.5,), std=(0.0,))
    with pytest.raises(OptionsError, match=r"options\.mean: 1 values for images of 3 channels"):
        build("convnet4", (16, 16, 3), mean=(0.5,), std=(0.5,))


class TestVisionTransformer:
    def test_patches_that_do_not_tile_are_refused_with_the_sizes_that_do(self):
        with pytest.raises(
            RecipeError, match=r"vit_small: patches of 16 do not tile images of 28x28; .*\[2, 4, 7, 14, 28\]"
        ):
            build("vit_small", (28, 28, 1))
        with pytest.raises(RecipeError, match=r"images of Nonex30; "):
            build("vit_tiny", (None, 30, 3))

    def test_images_of_any_size_have_the_positions_of_their_own_grid(self):
        fixed, free = build("vit_tiny", (8, 12, 3), depth=1), build("vit_tiny", (None, None, 3), depth=1)
        free.set_weights(fixed.get_weights())
        x = images(2, 8, 12, 3)
        for name, value in fixed(x).items():
            np.testing.assert_allclose(free(x)[name], value, atol=1e-5)
        assert free(images(2, 20, 4, 3))["tokens"].shape == (2, 5, 192)

    def test_patches_are_projected_as_by_a_dense_layer(self):
        """Glorot's uniform bound with 16 * 16 * 3 values in and 384 out: sqrt(6 / 1152)."""
        model = vit.vit_small((32, 32, 3), VisionTransformerOptions(depth=1))
        largest = np.abs(np.array(model.get_layer("patches").kernel)).max()
        assert largest == pytest.approx((6 / 1152) ** 0.5, rel=1e-3)

    def test_a_narrower_one_has_its_own_width_and_heads_that_divide_it(self):
        model = build("vit_tiny", (8, 8, 3), depth=1, width=96, heads=3)
        assert model(images(2, 8, 8, 3))["embedding"].shape == (2, 96)
        assert build("vit_tiny", (8, 8, 3), depth=1, width=48)(images(2, 8, 8, 3))["tokens"].shape == (2, 4, 48)
        with pytest.raises(ValueError, match="multiple of 4"):  # half sines, half cosines, in two directions
            VisionTransformerOptions(width=90)

    def test_tokens_stand_for_patches_row_by_row(self):
        model = build("vit_tiny", (8, 12, 1), depth=1)
        before = keras.Model(model.inputs, model.get_layer("patch_tokens").output)
        x = np.zeros((1, 8, 12, 1), "float32")
        x[0, 4:8, 8:12] = 1.0  # second row, third column
        changed = np.any(np.array(before([x])) != np.array(before([0 * x])), axis=-1)[0]
        assert changed.tolist() == [False] * 5 + [True]
        assert model(x)["tokens"].shape == (1, 6, 192)

    @pytest.mark.parametrize("pool", ["class_token", "mean"])
    def test_only_the_kept_patches_are_computed(self, pool, monkeypatch):
        """A quarter of 64 tokens, and the class token where there is one, reach each block."""
        seen = []
        call = TransformerBlock.call
        monkeypatch.setattr(
            TransformerBlock, "call", lambda self, x, *more: seen.append(x.shape[1]) or call(self, x, *more)
        )
        model = build("vit_tiny", (32, 32, 3), depth=2, pool=pool)
        x, kept = images(2, 32, 32, 3), tf.constant(np.argsort(images(2, 64), axis=1)[:, :16])
        seen.clear()
        outputs = patches.encode_kept(model, x, kept)
        assert seen == [16 + (pool == "class_token")] * 2
        assert outputs["tokens"].shape == (2, 16, 192)

    def test_one_of_any_size_encodes_some_patches_as_one_of_fixed_size(self):
        fixed, free = build("vit_tiny", (8, 12, 3), depth=1), build("vit_tiny", (None, None, 3), depth=1)
        free.set_weights(fixed.get_weights())
        x, kept = images(2, 8, 12, 3), tf.constant([[5, 0], [1, 4]])
        for name, value in patches.encode_kept(fixed, x, kept).items():
            np.testing.assert_allclose(patches.encode_kept(free, x, kept)[name], value, atol=1e-5)

    def test_the_mean_of_the_tokens_may_be_the_embedding_without_a_class_token(self):
        model = build("vit_tiny", (8, 8, 3), depth=1, pool="mean")
        outputs = model(images(2, 8, 8, 3))
        np.testing.assert_allclose(outputs["embedding"], np.mean(outputs["tokens"], axis=1), atol=1e-6)
        assert model.count_params() == build("vit_tiny", (8, 8, 3), depth=1).count_params() - 192

    def test_by_default_32_px_are_64_patches_and_224_px_196_as_in_the_paper(self):
        for name, side, count in (("vit_tiny", 32, 64), ("vit_base", 224, 196)):
            assert build(name, (side, side, 3), depth=1).output["tokens"].shape[1] == count


def test_listing_does_not_import_tensorflow():
    code = (
        "import sys; from kzoo_backbones import plugin; assert len(list(plugin.kzoo_backbones())) == 8; "
        "print([name for name in ('tensorflow', 'keras') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
