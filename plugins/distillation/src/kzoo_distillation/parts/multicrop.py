"""What DINO, iBOT and DINOv2 share: views of two sizes, a teacher that follows, heads that end in prototypes."""

import keras
import numpy as np
import tensorflow as tf

from kzoo import augment
from kzoo.layers import UnitDense, every_layer, mlp_head
from kzoo.method import Batch, Group, Method
from kzoo.random import fold_in
from kzoo.state import Centre, EMATeacher
from kzoo_distillation.parts.attention import class_attention, picture
from kzoo_distillation.specs.multicrop import MultiCropOptions

LARGE = 2  # large views of each image


class MultiCrop(Method):
    """Two large views `[2B, H, W, C]` and n small ones `[nB, h, w, C]` of each image, those of an image neighbours.

    Downstream is the teacher's backbone, as the authors evaluate and publish it.
    """

    options: MultiCropOptions
    head: keras.Sequential
    teacher: EMATeacher

    @staticmethod
    def pretext(batch: Batch, keys: tf.Tensor, options: MultiCropOptions) -> Batch:
        large = [options.view_0.model_dump(), options.view_1.model_dump()]
        small = [options.local_view.model_dump()] * options.local_views
        sizes = {"size": options.size, "small_size": options.local_size}
        return augment.multi_crop(batch["image"], keys, large, small, **sizes)

    @property
    def encoder(self) -> keras.Model:
        return self.teacher.models[0]

    def heads(self) -> list[keras.Sequential]:
        """All that end in prototypes."""
        return [self.head]

    def optimizer_groups(self) -> dict[str, Group]:
        """The prototypes apart: they stay as they were drawn for the first epochs."""
        last = [variable for head in self.heads() for variable in head.layers[-1].trainable_variables]
        prototypes = Group(last, frozen_until_epoch=self.options.freeze_epochs)
        return {"main": Group(self.trainable_but(last)), "prototypes": prototypes}

    def large_keys(self, batch: Batch) -> tf.Tensor:
        """A key for each large view, int64 `[2B]`."""
        keys = tf.repeat(batch["seed"], LARGE)
        return fold_in(keys, tf.range(tf.shape(keys)[0]) % LARGE)

    def by_image(self, large: tf.Tensor, small: tf.Tensor | None = None) -> tf.Tensor:
        """What is said of all views, `[2b, K]` and `[nb, K]`, as one tensor `[b, 2 + n, K]`."""
        said = [tf.reshape(large, [-1, LARGE, large.shape[-1]])]
        if small is not None:
            said.append(tf.reshape(small, [-1, self.options.local_views, small.shape[-1]]))
        return tf.concat(said, axis=1)

    def show_prototypes(self, batch: Batch, taught: tf.Tensor) -> dict[str, np.ndarray | list[str]]:
        """The large views, what the teacher's class token looks at in the first, and the prototype that the teacher,
        centred, finds most like each.
        """
        chosen = np.argmax(self.by_image(taught), axis=2)
        first, second = batch["large"][::LARGE].numpy(), batch["large"][1::LARGE].numpy()
        said = [f"{a} and {b}" + (", alike" if a == b else "") for a, b in chosen]
        attention = class_attention(self.encoder, batch["large"][::LARGE])
        looked = {} if attention is None else {"attention": picture(attention, first.shape[1])}
        return {"view 0": first, **looked, "view 1": second, "prototype": said}


def prototype_head(
    inputs: int, widths: tuple[int, ...], prototypes: int, name: str, *, gain: bool = False
) -> keras.Sequential:
    """Dense, GELU, ..., Dense, unit norm, cosines with K prototypes, each times a gain: `[b, inputs]` to `[b, K]`."""
    mlp = mlp_head(widths, activation="gelu", name="mlp")
    head = keras.Sequential([mlp, UnitDense(prototypes, gain=gain, name="prototypes")], name=name)
    head.build((None, inputs))
    return head


def sharpened(logits: tf.Tensor, centre: Centre, temperature: tf.Tensor) -> tf.Tensor:
    """What a teacher says, `[..., K]`: a softmax of its logits, less their centre, at a low temperature."""
    return tf.nn.softmax((logits - centre.read()) / temperature)


def over_pairs(taught: tf.Tensor, said: tf.Tensor) -> tf.Tensor:
    """The mean cross-entropy over all pairs of a large and another view (Caron et al. 2021, equation 2).

    taught: probabilities of the large views, `[b, 2, K]`. said: log-probabilities of all views, `[b, 2 + n, K]`.
    """
    crossed = -tf.einsum("btk,bsk->bts", taught, said)
    other = 1.0 - tf.eye(LARGE, crossed.shape[2], dtype=crossed.dtype)
    return tf.reduce_mean(tf.reduce_sum(other * crossed, axis=(1, 2))) / (LARGE * crossed.shape[2] - LARGE)


def entropy(probabilities: tf.Tensor) -> tf.Tensor:
    """The mean entropy of rows `[..., K]`: 0 or log K tell of collapse."""
    return tf.reduce_mean(-tf.reduce_sum(tf.math.xlogy(probabilities, probabilities), axis=-1))


def patch_projection(backbone: keras.Model) -> keras.layers.Layer:
    """The convolution that turns the patches of a vision transformer into tokens."""
    return next(layer for layer in every_layer(backbone) if isinstance(layer, keras.layers.Conv2D))
