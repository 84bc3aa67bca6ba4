"""The one builder of projection and prediction heads, and the layer of prototypes."""

from collections.abc import Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from kzoo.errors import RecipeError
from kzoo.layers.batch_norm import BatchNormalization
from kzoo.layers.closed_form import gelu
from kzoo.losses import full_precision, l2_normalize


@keras.saving.register_keras_serializable(package="kzoo")
class UnitDense(keras.layers.Layer):
    """Cosines between the input and `units` prototypes: `L2(x) W`, the columns of W of unit norm, no bias.

    The last layer of DINO, iBOT and SwAV (Caron et al. 2020, 2021): a weight-normalised Dense layer whose gain is 1,
    or, with `gain`, begins at 1 and is learnt for each unit.
    Input shape: `[..., D]`. Output shape: `[..., units]`, in [-1, 1] times the gain, in full precision.
    """

    def __init__(self, units: int, gain: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.units, self.has_gain = units, gain

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        start = keras.initializers.RandomNormal(stddev=0.02)
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], self.units), initializer=start)
        self.gain = self.add_weight(name="gain", shape=(self.units,), initializer="ones") if self.has_gain else None

    def call(self, inputs: Any) -> Any:
        rows = l2_normalize(tf.convert_to_tensor(inputs))
        kernel = tf.cast(full_precision(tf.convert_to_tensor(self.kernel)), rows.dtype)
        cosines = tf.matmul(rows, tf.math.l2_normalize(kernel, axis=0, epsilon=1e-12))
        return cosines if self.gain is None else cosines * tf.cast(tf.convert_to_tensor(self.gain), cosines.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "gain": self.has_gain}


def mlp_head(
    widths: Sequence[int],
    *,
    activation: Literal["relu", "gelu"] = "relu",
    hidden_norm: bool = False,
    final_norm: bool | Literal["no_beta", "no_affine"] = False,
    final_bias: bool = True,
    name: str = "head",
) -> keras.Sequential:
    """Build a projector or predictor: Dense layers with an activation between them, each optionally batch-normalised.

    A Dense layer that is followed by normalisation has no bias: the normalisation would take it away.

    Args:
        widths: the width of each Dense layer; the last is the width of the output.
        activation: between the layers.
        hidden_norm: normalise before each activation.
        final_norm: normalise the output: True in full, "no_beta" without shift, "no_affine" without shift and scale.
        final_bias: give the last Dense layer a bias, where no normalisation follows it.

    Input shape: `[B, D]`. Output shape: `[B, widths[-1]]`.
    Raises: RecipeError without a width.

    The heads of the literature:
        SimCLR:            mlp_head([2048, 128], hidden_norm=True, final_norm="no_beta")
        MoCo v1:           mlp_head([128])
        MoCo v2:           mlp_head([2048, 128])
        BYOL:              mlp_head([4096, 256], hidden_norm=True)                    projector and predictor
        SimSiam projector: mlp_head([2048, 2048, 2048], hidden_norm=True, final_norm="no_affine")
        SimSiam predictor: mlp_head([512, 2048], hidden_norm=True)
        Barlow Twins:      mlp_head([8192, 8192, 8192], hidden_norm=True, final_bias=False)
        DINO:              mlp_head([2048, 2048, 256], activation="gelu"), then UnitDense(65536)
    """
    if not widths:
        raise RecipeError(f"{name}: a head without layers; give mlp_head at least one width")
    layers: list[keras.layers.Layer] = []
    for index, width in enumerate(widths[:-1]):
        layers.append(keras.layers.Dense(width, use_bias=not hidden_norm, name=f"dense_{index}"))
        if hidden_norm:
            layers.append(BatchNormalization(name=f"norm_{index}"))
        title = f"{activation}_{index}"
        layers.append(
            keras.layers.ReLU(name=title) if activation == "relu" else keras.layers.Activation(gelu, name=title)
        )
    last = len(widths) - 1
    layers.append(keras.layers.Dense(widths[-1], use_bias=final_bias and not final_norm, name=f"dense_{last}"))
    if final_norm:
        norm = BatchNormalization(center=final_norm is True, scale=final_norm != "no_affine", name=f"norm_{last}")
        layers.append(norm)
    return keras.Sequential(layers, name=name)
