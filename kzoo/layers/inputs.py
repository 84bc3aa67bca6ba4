"""The entrance of a backbone of images: the input and its normalisation."""

import keras

from kzoo.errors import OptionsError
from kzoo.options import ImageBackboneOptions


def image_input(
    input_shape: tuple[int | None, int | None, int], options: ImageBackboneOptions
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Return a backbone's input, "image" `[B, *input_shape]` in [0, 1], and the tensor that the network starts from.

    With `mean` and `std` among the options the second is normalised, in the network: so what trains, is evaluated and
    is served cannot differ. Raises: OptionsError if `options.mean` has not one value per channel.
    """
    inputs = keras.Input(input_shape, name="image")
    if options.mean is None or options.std is None:
        return inputs, inputs
    channels = input_shape[-1]
    if len(options.mean) != channels:
        raise OptionsError(
            [f"backbone.options.mean: {len(options.mean)} values for images of {channels} channels; give {channels}"]
        )
    variance = [std**2 for std in options.std]
    return inputs, keras.layers.Normalization(mean=list(options.mean), variance=variance, name="normalise")(inputs)
