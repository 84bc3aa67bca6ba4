"""KerasHub's encoders under kzoo's contract: ResNet, ViT, DINOv2, DINOv3, from a preset's weights or at random.

Input: `[B, H, W, C]` in [0, 1], C of 1 or 3, any size; a transformer's patches must tile it. The scaling that the
preset was trained with is inside, and grey images are repeated to three channels.
Outputs of ResNet: "map" the last feature map; "map_1", "map_2", ... earlier ones, fine to coarse; "embedding" the mean
of "map" over positions. Of the transformers: "tokens" `[B, T, D]`, one for each patch, row by row, and "embedding"
`[B, D]`, the class token, or without one the mean of the tokens; both after the last normalisation.
What differs from KerasHub: dropout and drop path are off, as they draw alike on all replicas; batch normalisation is
kzoo's, with a momentum of 0.9; learned positions are resized to the image at hand, of any size and shape; the class
token and the vector of its place are one vector; and methods can show ViT and DINOv2 some of the patches
(`kzoo.patches`), which DINOv3's rotary positions do not allow.
"""

from typing import Any

import keras
import tensorflow as tf
from keras import layers

from kzoo.errors import OptionsError
from kzoo.layers import swap_batch_normalization
from kzoo.patches import KeptPatches, MaskedPatches
from kzoo_keras_hub import presets
from kzoo_keras_hub.options import PresetOptions, ResNetOptions, TransformerOptions
from kzoo_keras_hub.tokens import LearnedPositions, PrefixTokens, RotaryAngles

InputShape = tuple[int | None, int | None, int]

DROPOUTS = {
    "resnet": (),
    "vit": ("dropout_rate", "attention_dropout"),
    "dinov2": ("dropout_rate", "drop_path_rate"),
    "dinov3": ("attention_dropout", "drop_path_rate"),
}


@keras.saving.register_keras_serializable(package="kzoo_keras_hub")
class KerasHubBackbone(keras.Model):
    """A Functional model around a KerasHub network, rebuilt from that network's own arguments on loading.

    A saved one so needs no preset any more.

    Args:
        architecture: resnet, vit, dinov2 or dinov3.
        arguments: of KerasHub's class.
        input_shape: (height, width, channels); sides may be None.
        scale, offset: of each channel: the network gets image * scale + offset.
        network: KerasHub's network of these arguments, whose weights are taken over; none: a new one.
    Raises: OptionsError if patches do not tile the images, or these have neither one channel nor three.
    """

    def __init__(
        self,
        architecture: str,
        arguments: dict[str, Any],
        input_shape: InputShape,
        scale: list[float],
        offset: list[float],
        network: keras.Model | None = None,
        **kwargs: Any,
    ):
        *sides, channels = input_shape
        if channels not in (1, 3):
            raise OptionsError(f"keras_hub/{architecture}: needs grey or RGB images, not {channels} channels")
        if architecture != "resnet":
            _check_tiled(architecture, _pair(arguments["patch_size"]), sides)
        x = inputs = keras.Input(input_shape, name="image")
        if channels == 1:
            x = layers.Concatenate(name="repeat_grey")([x, x, x])
        x = layers.Rescaling(scale, offset, name="scale")(x)

        source = presets.model_class(architecture)(**arguments) if network is None else network
        outputs = {"resnet": _maps, "vit": _vit, "dinov2": _dinov2, "dinov3": _dinov3}[architecture](source, x)
        super().__init__(inputs=inputs, outputs=outputs, name=kwargs.pop("name", architecture), **kwargs)
        if network is not None and architecture != "resnet":
            _take_over(self, network, architecture)
        self.architecture = architecture
        self.arguments = arguments
        self.scale = scale
        self.offset = offset

    def get_config(self) -> dict[str, Any]:
        return {
            "architecture": self.architecture,
            "arguments": self.arguments,
            "input_shape": self.input_shape[1:],
            "scale": self.scale,
            "offset": self.offset,
            "name": self.name,
            "trainable": self.trainable,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "KerasHubBackbone":
        return cls(**config)


def _pair(patch_size: Any) -> tuple[int, int]:
    return (patch_size, patch_size) if isinstance(patch_size, int) else tuple(patch_size)


def _check_tiled(architecture: str, patch: tuple[int, int], sides: list[int | None]) -> None:
    if patch[0] != patch[1]:
        raise OptionsError(f"keras_hub/{architecture}: its patches are {patch[0]}x{patch[1]}; kzoo's are square")
    known = [side for side in sides if side is not None]
    if any(side % patch[0] for side in known):
        near = max(known) // patch[0] * patch[0]
        raise OptionsError(
            f"keras_hub/{architecture}: patches of {patch[0]} do not tile images of {sides[0]}x{sides[1]}; set the "
            f"size of the views and of the data to a multiple of {patch[0]}, such as {near or patch[0]} or "
            f"{near + patch[0]}"
        )


def _maps(network: keras.Model, x: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
    swap_batch_normalization(network, momentum=0.9)
    *earlier, _ = network.pyramid_outputs.values()
    levels = {f"map_{level}": one for level, one in enumerate(earlier, start=1)}
    outputs = keras.Model(network.inputs[0], {"map": network.output, **levels}, name="features")(x)
    return {**outputs, "embedding": layers.GlobalAveragePooling2D(name="embedding")(outputs["map"])}


def _projected(x: keras.KerasTensor, width: int, patch: int, bias: bool = True) -> keras.KerasTensor:
    start = keras.initializers.TruncatedNormal(stddev=0.02)
    return layers.Conv2D(width, patch, patch, use_bias=bias, kernel_initializer=start, name="patches")(x)


def _vit(network: keras.Model, x: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
    patch, prefix = _pair(network.patch_size)[0], int(network.use_class_token)
    grid = tuple(side // patch for side in network.image_shape[:2])
    x = MaskedPatches(name="masked_patches")(_projected(x, network.hidden_dim, patch, network.use_patch_bias))
    x = KeptPatches(patch, name="patch_tokens")(LearnedPositions(grid, name="positions")(x))
    x = PrefixTokens(1, name="prefix")(x) if prefix else x
    return _split(network.get_layer("vit_encoder")(x), prefix)


def _dinov2(network: keras.Model, x: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
    patch, prefix = network.patch_size, 1 + network.num_register_tokens
    grid = tuple(side // patch for side in network.position_embedding_shape[:2])
    x = MaskedPatches(name="masked_patches")(_projected(x, network.hidden_dim, patch))
    x = LearnedPositions(grid, network.antialias_in_interpolation, name="positions")(x)
    x = PrefixTokens(prefix, name="prefix")(KeptPatches(patch, name="patch_tokens")(x))
    return _split(network.layernorm(network.encoder(x)[0]), prefix)


def _dinov3(network: keras.Model, x: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
    prefix, width = 1 + network.num_register_tokens, network.hidden_dim
    x = _projected(x, width, network.patch_size)
    angles = RotaryAngles(width // network.num_heads, network.rope_theta, name="angles")(x)
    x = PrefixTokens(prefix, name="prefix")(layers.Reshape((-1, width), name="patch_tokens")(x))
    x, _ = network.encoder(x, position_embeddings=angles, num_prefix_tokens=prefix)
    return _split(network.layernorm(x), prefix)


def _split(x: keras.KerasTensor, prefix: int) -> dict[str, keras.KerasTensor]:
    """Outputs from the normalised tokens, of which `prefix` stand for no patch."""
    if not prefix:
        return {"embedding": layers.GlobalAveragePooling1D(name="mean")(x), "tokens": x}
    return {"embedding": x[:, 0], "tokens": x[:, prefix:]}


def _take_over(model: keras.Model, network: keras.Model, architecture: str) -> None:
    """The weights before the encoder, which is KerasHub's own layer, from a network into kzoo's layers."""
    if architecture == "vit":
        source = network.get_layer("vit_patching_and_embedding")
        projection, table = source.patch_embedding, source.position_embedding.embeddings[None]
        prefix = [source.class_token] if network.use_class_token else []
    else:
        source = network.embeddings
        projection, prefix = source.patch_embeddings.projection, [source.cls_token]
        prefix += [source.register_tokens] if network.num_register_tokens else []
        table = source.position_embeddings if architecture == "dinov2" else None
    model.get_layer("patches").set_weights(projection.get_weights())
    if prefix:
        tokens = tf.concat([tf.convert_to_tensor(token) for token in prefix], axis=1)
        if table is not None:  # the class token stands first, and so does its place
            at_first = tf.pad(tf.convert_to_tensor(table)[:, :1], [[0, 0], [0, tokens.shape[1] - 1], [0, 0]])
            tokens, table = tokens + at_first, tf.convert_to_tensor(table)[:, 1:]
        model.get_layer("prefix").tokens.assign(tokens)
    if table is not None:
        positions = model.get_layer("positions").table
        positions.assign(tf.reshape(tf.convert_to_tensor(table), positions.shape))


def _build(architecture: str, input_shape: InputShape, options: PresetOptions, arguments: Any) -> keras.Model:
    """A backbone from the preset that the options name, or at random from arguments of KerasHub's class."""
    network = None
    if options.preset is not None:
        quiet = dict.fromkeys(DROPOUTS[architecture], 0.0)
        network = presets.load(options.preset, architecture, dtype=keras.config.dtype_policy(), **quiet)
        own = ("name", "trainable", "dtype")
        arguments = {key: value for key, value in network.get_config().items() if key not in own}
    return KerasHubBackbone(
        architecture, arguments, input_shape, *presets.scaling(options.preset, architecture), network=network
    )


def resnet(input_shape: InputShape, options: ResNetOptions) -> keras.Model:
    """ResNet: strides 4 to 32; without a preset, bottleneck blocks of ResNet-50's widths."""
    blocks = options.blocks or (3, 4, 6, 3)
    arguments = {
        "input_conv_filters": [64],
        "input_conv_kernel_sizes": [7],
        "stackwise_num_filters": [64 * 2**stage for stage in range(len(blocks))],
        "stackwise_num_blocks": list(blocks),
        "stackwise_num_strides": [1] + [2] * (len(blocks) - 1),
        "block_type": "bottleneck_block",
    }
    return _build("resnet", input_shape, options, arguments)


def vit(input_shape: InputShape, options: TransformerOptions) -> keras.Model:
    """ViT; without a preset, ViT-S on patches of 16, with positions for square images' size, else for 14 x 14."""
    shape = _transformer(options, input_shape)
    return _build("vit", input_shape, options, {"mlp_dim": shape.pop("intermediate_dim"), **shape})


def dinov2(input_shape: InputShape, options: TransformerOptions) -> keras.Model:
    """DINOv2; without a preset, ViT-S on patches of 16."""
    shape = _transformer(options, input_shape)
    return _build("dinov2", input_shape, options, {**shape, "position_embedding_shape": shape["image_shape"]})


def dinov3(input_shape: InputShape, options: TransformerOptions) -> keras.Model:
    """DINOv3; without a preset, ViT-S on patches of 16, with four registers."""
    return _build("dinov3", input_shape, options, _transformer(options, input_shape))


def _transformer(options: TransformerOptions, input_shape: InputShape) -> dict[str, Any]:
    width, patch = options.width or 384, options.patch_size or 16
    side = input_shape[0] if input_shape[0] == input_shape[1] and input_shape[0] else 14 * patch
    return {
        "image_shape": [side, side, 3],
        "patch_size": patch,
        "num_layers": options.depth or 12,
        "num_heads": options.heads or 6,
        "hidden_dim": width,
        "intermediate_dim": 4 * width,
    }
