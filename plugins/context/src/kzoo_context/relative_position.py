"""Relative patch position (Doersch, Gupta, Efros, "Unsupervised visual representation learning by context prediction",
ICCV 2015).
"""

import math
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kzoo import losses
from kzoo.errors import OptionsError
from kzoo.layers import BatchNormalization, mlp_head
from kzoo.method import Batch, Logs, Method
from kzoo.random import bernoulli, fold_in, integers, uniform
from kzoo_context.options import RelativePositionOptions
from kzoo_context.parts import BUILD_SIDE, EvenContrast, cut, embed_parts, encoder_after, keys_of, square

# rows down and columns right, in reading order without the centre; so the way back from l is 7 - l
DIRECTIONS = np.array([(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)], np.int32)
NAMES = ("upper left", "above", "upper right", "left", "right", "lower left", "below", "lower right")

_GREEN_MAGENTA = np.array([[-1.0, 2.0, -1.0]])
PROJECTION = np.eye(3) - _GREEN_MAGENTA.T @ _GREEN_MAGENTA / np.sum(_GREEN_MAGENTA**2)


class Geometry(NamedTuple):
    """Sides and distances in pixels."""

    patch: int
    gap: int
    jitter: int


def geometry(side: int, options: RelativePositionOptions) -> Geometry:
    """The patches of an image of so many pixels, in the paper's proportions of 96 : 48 : 7.

    28 pixels give patches of 8, 64 patches of 19. Raises: OptionsError where two patches and their gap do not fit.
    """
    patch = options.patch or max(4, int(0.3 * side))
    gap = patch // 2 if options.gap is None else options.gap
    jitter = max(1, round(patch * 7 / 96)) if options.jitter is None else options.jitter
    needed = least_side(patch, gap, options.shrink)
    if needed > side:
        raise OptionsError(
            f"relative_position: two patches of {patch} pixels with a gap of {gap} need images of {needed}, these have "
            f"{side}; lower method.options.patch or gap, or raise size or shrink"
        )
    return Geometry(patch, gap, jitter)


def least_side(patch: int, gap: int, shrink: float) -> int:
    """Side in pixels of the smallest image that two patches and their gap fit in."""
    needed = 2 * patch + gap
    return needed if shrink == 1 else math.ceil(needed / math.sqrt(shrink)) + 2  # each length is rounded


class RelativePosition(Method):
    """Given a patch and one of its eight neighbours, the network says where the neighbour lies.

    Image `[B, H, W, C]` -> pairs of neighbouring cells of a grid laid at random, a gap between them, each patch moved
    by a little jitter, so that no line continues from one into the other -> some patches lose resolution -> all but
    one colour channel dropped, against chromatic aberration -> `patch_0` and `patch_1` `[B * pairs, p, p, C]` ->
    each centred, scaled to a root mean square of 50, and through the backbone and a Dense layer with batch
    normalisation, by itself -> both side by side, through two more -> 8 logits -> cross-entropy. Uniform logits cost
    log 8. Both orders of each pair are asked; what lies at l from one sees the other at 7 - l.

    Where the authors take every pair of neighbours of 4 grids per image, here the position is drawn first, each with
    probability 1/8, then the place of the pair: no position is favoured at the image's borders. Downstream, whole
    images are centred and scaled as patches are.

    Deviations: any convolutional backbone, for AlexNet's convolutions; batch normalisation in fc8 too; the mean of the
    losses, where the authors' code (cdoersch/deepcontext) has their sum and a learning rate of 1e-5 to go with it.
    """

    options: RelativePositionOptions

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: RelativePositionOptions) -> Batch:
        images = square(batch["image"], options.size)
        position, corners, sides = draw_pairs(seed, images.shape[1], options)
        size = geometry(images.shape[1], options).patch
        patches = cut(images, tf.reshape(corners, [-1, 2 * options.pairs, 2]), size, sides)
        patches = tf.reshape(patches, [-1, *patches.shape[2:]])
        keys = keys_of(seed, 2 * options.pairs, "patch")
        patches = coarsen(patches, keys, options.coarsen)
        if options.colour == "drop":
            patches = drop_colours(patches, keys)
        pairs = tf.reshape(patches, [-1, 2, *patches.shape[1:]])
        return {"patch_0": pairs[:, 0], "patch_1": pairs[:, 1], "position": tf.reshape(position, [-1])}

    def build_heads(self) -> None:
        options, layers = self.options, keras.layers
        entrance = [EvenContrast(options.rms, channel_means=True, name="even_contrast")]
        if options.colour == "project" and self.backbone.input_shape[-1] == 3:
            entrance.insert(0, ProjectColour(name="project_colour"))
        self.even_encoder = encoder_after(self, *entrance)
        self.patch_features = keras.Sequential(
            [
                layers.Dense(options.features, use_bias=False, name="dense"),
                BatchNormalization(name="norm"),
                layers.ReLU(name="relu"),
            ],
            name="patch_features",
        )
        self.patch_features.build((None, self.width))
        self.classifier = mlp_head((*options.hidden, 8), hidden_norm=True, name="classifier")
        self.classifier.build((None, 2 * options.features))

    @property
    def input_size(self) -> int:
        patch, gap = self.options.patch, self.options.gap
        if patch is None:
            needed = 3 * (gap or 0)  # which leaves 0.3 of the side for each patch
        else:
            needed = least_side(patch, patch // 2 if gap is None else gap, self.options.shrink)
        return self.options.size or max(BUILD_SIDE, needed)

    @property
    def encoder(self) -> keras.Model:
        return self.even_encoder

    def forward(self, batch: Batch, training: bool) -> Batch:
        patches = tf.concat([batch["patch_0"], batch["patch_1"]], axis=0)
        features = self.patch_features(embed_parts(self, patches, training), training=training)
        first, second = tf.split(features, 2)
        pairs = tf.concat([tf.concat([first, second], axis=1), tf.concat([second, first], axis=1)], axis=0)
        there, back = tf.split(self.classifier(pairs, training=training), 2)
        return {"logits": there, "logits_back": back}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        logits = tf.concat([outputs["logits"], outputs["logits_back"]], axis=0)
        position = tf.concat([batch["position"], 7 - batch["position"]], axis=0)
        return {"loss": losses.cross_entropy(logits, position), "accuracy": losses.accuracy(logits, position)}

    def chance(self) -> dict[str, float]:
        return {"loss": math.log(8), "accuracy": 1 / 8}

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        batch = {key: value[:: self.options.pairs] for key, value in batch.items() if key not in ("id", "seed")}
        answer = np.argmax(self.forward(batch, training=False)["logits"], axis=1)
        centre, neighbour, position = (np.asarray(batch[key]) for key in ("patch_0", "patch_1", "position"))
        return {
            "true": laid_out(centre, neighbour, position),
            "answered": laid_out(centre, neighbour, answer),
            "answer": [
                NAMES[said] if said == true else f"{NAMES[said]},\nnot {NAMES[true]}"
                for said, true in zip(answer, position, strict=True)
            ],
        }


def draw_pairs(
    seed: tf.Tensor, side: int, options: RelativePositionOptions
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
    """Where pairs of patches lie in square images.

    Returns: the position of the second seen from the first, int32 `[B, pairs]`; the top and left of both, int32
    `[B, pairs, 2, 2]`; the sides of the boxes, int32 `[B]`, where images are shrunk, else none.
    """
    patch, gap, jitter = geometry(side, options)
    shrunk = options.shrink < 1.0
    if shrunk:  # instead of a smaller image, larger boxes, resized
        factor = tf.math.rsqrt(uniform(fold_in(seed, "shrink"), (), options.shrink, 1.0))
        patch, gap, jitter = (
            tf.cast(tf.round(tf.cast(length, tf.float32) * factor), tf.int32)[:, None, None]
            for length in (patch, gap, jitter)
        )
    shape = (options.pairs, 2)
    position = integers(fold_in(seed, "position"), (options.pairs,), 0, 8)
    direction, step = tf.gather(DIRECTIONS, position), patch + gap
    origin = integers(fold_in(seed, "place"), shape, 0, side - patch - tf.abs(direction) * step + 1)
    corners = tf.stack([origin + tf.nn.relu(-direction) * step, origin + tf.nn.relu(direction) * step], axis=2)
    moved = [integers(fold_in(seed, f"jitter_{i}"), shape, -jitter, jitter + 1) for i in range(2)]
    limit = (side - patch)[..., None] if shrunk else side - patch
    corners = tf.clip_by_value(corners + tf.stack(moved, axis=2), 0, limit)
    return position, corners, patch[:, 0, 0] if shrunk else None


def coarsen(patches: tf.Tensor, keys: tf.Tensor, p: float) -> tf.Tensor:
    """With probability p, shrink a patch to 100 to 95 x 95 of its 96 x 96 pixels (1 to 98 %) and enlarge it again."""
    side = patches.shape[1]
    share = uniform(fold_in(keys, "share"), (), 100 / 96**2, 95**2 / 96**2)
    chosen = bernoulli(fold_in(keys, "coarsen"), p)
    samples = tf.where(chosen, tf.maximum(1.0, tf.round(side * tf.sqrt(share))), float(side))[:, None, None]
    index = tf.range(side, dtype=tf.float32)
    # bilinear both ways, as one matrix [side, side] per patch; on the way down each sample averages what it covers
    centres = (index[:, None] + 0.5) * side / samples - 0.5
    down = tf.nn.relu(1 - tf.abs(centres - index) * samples / side) * tf.cast(index[:, None] < samples, tf.float32)
    down = tf.math.divide_no_nan(down, tf.reduce_sum(down, axis=2, keepdims=True))
    centres = tf.clip_by_value((index[:, None] + 0.5) * samples / side - 0.5, 0.0, samples - 1)
    matrix = tf.matmul(tf.nn.relu(1 - tf.abs(centres - index)), down)
    rows = tf.einsum("nij,njkc->nikc", matrix, patches)
    return tf.einsum("nij,nkjc->nkic", matrix, rows)


def drop_colours(patches: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    """Keep one channel of each patch and fill the others with noise, grey up to half a step of 8-bit colour."""
    if patches.shape[-1] == 1:
        return patches
    kept = tf.one_hot(integers(fold_in(keys, "kept"), (), 0, 3), 3)[:, None, None]
    noise = 0.5 + uniform(fold_in(keys, "noise"), patches.shape[1:], -0.5, 0.5) / 255
    return kept * patches + (1 - kept) * noise


@keras.saving.register_keras_serializable(package="kzoo_context")
class ProjectColour(keras.layers.Layer):
    """Take the green-magenta axis from colours: x (I - aᵀa / aaᵀ) with a = (-1, 2, -1) (section 3.1).

    Lenses focus green apart from red and blue, which tells where in the image a patch lies. Grey stays as it is.
    Input shape: `[B, H, W, 3]`. Output shape: the same.
    """

    def call(self, images: Any) -> tf.Tensor:
        x = tf.convert_to_tensor(images)
        return tf.tensordot(x, tf.constant(PROJECTION, x.dtype), 1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape


def laid_out(centre: np.ndarray, neighbour: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Patches `[n, p, p, C]` as pictures of 3 x 3 cells, the neighbours at their positions, the rest white."""
    count, side, _, channels = centre.shape
    step = side + max(1, side // 4)
    picture = np.ones((count, 2 * step + side, 2 * step + side, channels), np.float32)
    for one, patches in zip(picture, zip(centre, neighbour, position, strict=True), strict=True):
        for patch, (row, column) in ((patches[0], (0, 0)), (patches[1], DIRECTIONS[patches[2]])):
            top, left = (row + 1) * step, (column + 1) * step
            one[top : top + side, left : left + side] = patch
    return picture
