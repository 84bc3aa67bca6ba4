"""What the methods here build around a backbone: what they read from it, convolutions that go up or down."""

import math

import keras

from kzoo.layers import BatchNormalization

DCGAN_DEVIATION = 0.02  # of the initial weights (Radford, Metz, Chintala 2016, section 3)
_WIDEST = 1024  # channels; DCGAN's first


def features(backbone: keras.Model) -> keras.KerasTensor:
    """The last feature map, flattened, so that places are kept; the embedding `[B, D]` where there is no map.

    A backbone for images of any size has no flat width: there too it is the embedding.
    """
    last = backbone.output.get("map")
    if last is None or None in last.shape[1:]:
        return backbone.output["embedding"]
    return keras.layers.Reshape((math.prod(last.shape[1:]),), name="flat_map")(last)


def normal(deviation: float | None) -> keras.initializers.Initializer:
    """Initial weights N(0, deviation); Glorot's where there is none."""
    return keras.initializers.RandomNormal(stddev=deviation) if deviation else keras.initializers.GlorotUniform()


def _normalisation(deviation: float | None, name: str | None = None) -> BatchNormalization:
    """Batch normalisation; its scale starts at N(1, deviation) where that is given, as in the authors' DCGAN."""
    scale = keras.initializers.RandomNormal(1.0, deviation) if deviation else "ones"
    return BatchNormalization(gamma_initializer=scale, name=name)


def upconvolutions(
    code: int,
    size: int,
    channels: int,
    *,
    width: int,
    kernel: int = 4,
    activation: str | None = "sigmoid",
    deviation: float | None = None,
    bias: bool = True,
    name: str = "decoder",
) -> keras.Sequential:
    """A code to an image: Dense to 3 or 4 pixels a side, then transposed convolutions that double it, then a crop.

    Each layer but the last is followed by batch normalisation and ReLU, and has no bias.

    Args:
        width: channels of the last hidden layer; each layer before has twice as many, 1024 at most.
        activation: of the last layer; none: linear. bias: whether that layer has one.
        deviation: of the initial weights, as in DCGAN; none: Glorot's.

    Input shape: `[B, code]`. Output shape: `[B, size, size, channels]`.
    """
    doublings = max(1, (size - 1).bit_length() - 2)
    side = -(-size // 2**doublings)
    widths = [min(_WIDEST, width * 2**level) for level in reversed(range(doublings))]
    layers = [
        keras.Input((code,)),
        keras.layers.Dense(side * side * widths[0], use_bias=False, kernel_initializer=normal(deviation)),
        keras.layers.Reshape((side, side, widths[0])),
        _normalisation(deviation),
        keras.layers.ReLU(),
    ]
    for filters in widths[1:]:
        layers += [
            keras.layers.Conv2DTranspose(
                filters, kernel, 2, "same", use_bias=False, kernel_initializer=normal(deviation)
            ),
            _normalisation(deviation),
            keras.layers.ReLU(),
        ]
    over = side * 2**doublings - size
    layers += [
        keras.layers.Conv2DTranspose(channels, kernel, 2, "same", use_bias=bias, kernel_initializer=normal(deviation)),
        keras.layers.Cropping2D(((over // 2, over - over // 2),) * 2),
        keras.layers.Activation(activation or "linear"),
    ]
    return keras.Sequential(layers, name=name)


def downconvolutions(
    x: keras.KerasTensor, widths: tuple[int, ...], kernel: int, *, bias: bool = True
) -> list[keras.KerasTensor]:
    """DCGAN's discriminator: convolutions of stride 2, LeakyReLU 0.2, batch normalisation after all but the first.

    bias: whether the first has one; the others, before normalisation, never do. Returns the map after each layer.
    """
    maps = []
    for level, filters in enumerate(widths, start=1):
        x = keras.layers.Conv2D(
            filters,
            kernel,
            2,
            "same",
            use_bias=bias and level == 1,
            kernel_initializer=normal(DCGAN_DEVIATION),
            name=f"conv_{level}",
        )(x)
        if level > 1:
            x = _normalisation(DCGAN_DEVIATION, f"norm_{level}")(x)
        x = keras.layers.LeakyReLU(0.2, name=f"leaky_relu_{level}")(x)
        maps.append(x)
    return maps
