"""DCGAN's discriminator as a backbone (Radford, Metz, Chintala, ICLR 2016, arXiv:1511.06434)."""

import keras

from kzoo_generative.networks import downconvolutions
from kzoo_generative.options import DiscriminatorOptions


def dcgan_discriminator(input_shape: tuple[int | None, int | None, int], options: DiscriminatorOptions) -> keras.Model:
    """Convolutions (5x5) of stride 2 with LeakyReLU 0.2, batch normalisation after all but the first.

    Images `[B, H, W, C]` in [0, 1], scaled to [-1, 1] inside. Outputs: "map_1", "map_2", ... at 1/2, 1/4, ... of the
    image's resolution, "map" the last, "embedding" its mean over positions.
    """
    image = keras.Input(input_shape, name="image")
    scaled = keras.layers.Rescaling(2.0, -1.0, name="rescale")(image)
    *earlier, last = downconvolutions(scaled, options.widths, options.kernel)
    outputs = {"embedding": keras.layers.GlobalAveragePooling2D(name="embedding")(last), "map": last}
    outputs |= {f"map_{level}": feature_map for level, feature_map in enumerate(earlier, start=1)}
    return keras.Model(image, outputs, name="dcgan_discriminator")
