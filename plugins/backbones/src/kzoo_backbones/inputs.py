"""The entrance that all backbones here share: the input and its normalisation."""

import keras

from kzoo.errors import OptionsError
from kzoo_backbones.options import BackboneOptions


def normalised_input(
    input_shape: tuple[int | None, int | None, int], options: BackboneOptions
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Return the model's input, `[B, *input_shape]` in [0, 1], and the tensor that the network starts from.

    Raises: OptionsError if `options.mean` has not one value per channel.
    """
    inputs = keras.Input(input_shape, name="image")
    if options.mean is None or options.std is None:
        return inputs, inputs
    channels = input_shape[-1]
    if len(options.mean) != channels:
        raise OptionsError(
            f"backbone.options.mean: {len(options.mean)} values for images of {channels} channels; give {channels}"
        )
    variance = [std**2 for std in options.std]
    return inputs, keras.layers.Normalization(mean=list(options.mean), variance=variance, name="normalise")(inputs)
