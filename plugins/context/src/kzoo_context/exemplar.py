"""Exemplar-CNN (Dosovitskiy, Springenberg, Riedmiller, Brox, "Discriminative unsupervised feature learning with
convolutional neural networks", NeurIPS 2014; TPAMI 2016).
"""

import math
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kzoo import augment, losses, replicas
from kzoo.errors import OptionsError
from kzoo.method import Batch, Logs, Method
from kzoo.random import fold_in, in_double, uniform
from kzoo_context.options import ExemplarOptions
from kzoo_context.parts import BUILD_SIDE, cut, dropout, embed_parts, encoder_after, keys_of, square

# The principal components of the colours of ImageNet's pixels, one a column, as released with fb.resnet.torch;
# orthonormalised, which changes the fourth digit.
COMPONENTS = np.linalg.qr(
    np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
)[0]


class Transform(NamedTuple):
    """Parameters of a geometric transform of patches and of the contrast of colours, one row for each patch."""

    shift: tf.Tensor  # [n, 2], down and right, in patch sides
    scale: tf.Tensor  # [n], of what is seen
    angle: tf.Tensor  # [n], radians
    contrast: tf.Tensor  # [n, 3], of each principal component; [n, 1] for grey images


class Exemplar(Method):
    """Every seed patch is a class of its own; random transforms of it are the class's examples.

    Image `[B, H, W, C]` -> one seed patch, at a place that belongs to the image, likely where gradients are large ->
    `views` transforms `[B * views, p, p, C]`: shifted by up to 0.2 of the patch, scaled by 0.7 to 1.4, turned by up to
    20 degrees, seeing what lies around the patch, mirrored at the image's border; colour contrast along each principal
    component times 0.5 to 2; saturation and value bent by a power, scaled and shifted, hue turned -> backbone `[., D]`.

    - form "classes": dropout, Dense(N), cross-entropy with the image's id, N the number of training examples. Uniform
      logits cost log N. Each epoch makes `views` new transforms of each seed; the paper has 100 to 150 in all.
    - form "triplet" (Zhai et al., "S4L", ICCV 2019, section 3.3): Dense(1000), unit norm, and the batch-hard soft
      margin: mean of log(1 + exp(the largest distance to a transform of the same seed - the least to another's)), over
      the global batch. Embeddings that are all equal cost log 2.

    Images that were held out belong to no class. `test_step` therefore asks, of the embedding, how often a transform
    lies nearer to its own seed than to another one: "ranking", at chance 1/2.

    Deviations: any convolutional backbone; one seed per image (take fewer seeds with the dataset's options), where the
    paper draws images by gradient too; components of ImageNet's colours, not of the dataset's; contrast about the mean
    colour of the patch, where the paper multiplies the projections of pixels and does not say about which point. The
    paper pools layers over quadrants and feeds them to an SVM; here the embedding, or maps by `evaluate.features`, are
    probed.
    """

    options: ExemplarOptions

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: ExemplarOptions) -> Batch:
        images = square(batch["image"], options.size)
        size = patch_side(images.shape[1], options)
        corner = seed_corners(images, batch["id"], size)
        views = views_of(options)
        keys = keys_of(seed, views, "view")
        many, corners = tf.repeat(images, views, axis=0), tf.repeat(corner, views, axis=0)
        patches = transform(many, corners, size, draw_transforms(keys, images.shape[-1], options))
        if options.hsv:
            patches = augment.hsv_power_jitter(patches, keys)
        return {
            "image": patches,
            "exemplar": tf.repeat(batch["id"], views),
            "seed_patch": cut(images, corner[:, None], size)[:, 0],
        }

    def build_heads(self) -> None:
        self.part_encoder = encoder_after(self)
        options = self.options
        width = self.require_examples() if options.form == "classes" else options.width
        self.head = keras.layers.Dense(width, name="classes" if options.form == "classes" else "projection")
        self.head.build((None, self.width))

    @property
    def input_size(self) -> int:
        return self.options.size or max(BUILD_SIDE, self.options.patch or 0)

    def forward(self, batch: Batch, training: bool) -> Batch:
        embedding = embed_parts(self, batch["image"], training)
        if self.options.form == "triplet":
            return {"projection": losses.l2_normalize(self.head(embedding))}
        if training:
            keys = keys_of(batch["seed"], views_of(self.options), "view")
            embedding = dropout(embedding, keys, self.options.dropout)
        return {"logits": self.head(embedding)}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        if self.options.form == "triplet":
            return {"loss": batch_hard(outputs["projection"], batch["exemplar"])}
        logits, label = outputs["logits"], batch["exemplar"]
        return {"loss": losses.cross_entropy(logits, label), "accuracy": losses.accuracy(logits, label)}

    def test_step(self, batch: Batch) -> Logs:
        """How often a transform lies nearer to its own seed than to another of this replica's: "ranking", in [0, 1]."""
        similarity, own = self.similarity_to_seeds(batch)
        theirs = tf.reduce_sum(similarity * own, axis=1, keepdims=True)
        nearer = (1 - own) * (tf.cast(theirs > similarity, own.dtype) + tf.cast(theirs == similarity, own.dtype) / 2)
        logs = {"ranking": tf.reduce_sum(nearer) / tf.reduce_sum(1 - own)}
        if self.options.form == "triplet":
            logs["loss"] = self.loss(self.forward(batch, training=False), batch)["loss"]
        return logs

    def similarity_to_seeds(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """Cosine of each transform's embedding with each seed patch's, `[B * views, B]`, and 1 where it is its own."""
        patches = losses.l2_normalize(self.embed(batch["image"], training=False))
        seeds = losses.l2_normalize(self.embed(batch["seed_patch"], training=False))
        similarity = tf.matmul(patches, seeds, transpose_b=True)
        own = tf.eye(tf.shape(seeds)[0], dtype=similarity.dtype)
        return similarity, tf.repeat(own, views_of(self.options), axis=0)

    def chance(self) -> dict[str, float]:
        if self.options.form == "triplet":
            return {"ranking": 0.5}
        classes = self.require_examples()
        return {"loss": math.log(classes), "accuracy": 1 / classes, "ranking": 0.5}

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        similarity, own = (np.asarray(x) for x in self.similarity_to_seeds(batch))
        seeds, patches = np.asarray(batch["seed_patch"]), np.asarray(batch["image"])
        views = views_of(self.options)
        nearest, true = similarity[::views].argmax(axis=1), own[::views].argmax(axis=1)
        return {
            "seed": seeds,
            "transformed": patches[::views],
            "nearest seed": seeds[nearest],
            "answer": ["found" if right else "another seed" for right in nearest == true],
        }


def views_of(options: ExemplarOptions) -> int:
    """How many transforms of each seed are in a batch."""
    return options.views or (1 if options.form == "classes" else 8)


def patch_side(side: int, options: ExemplarOptions) -> int:
    """Side of the seed patches of images of so many pixels. Raises: OptionsError where they are larger than these."""
    if options.patch and options.patch > side:
        raise OptionsError(
            f"exemplar: patches of {options.patch} pixels from images of {side}; lower method.options.patch"
        )
    return options.patch or side


def seed_corners(images: tf.Tensor, ids: tf.Tensor, size: int) -> tf.Tensor:
    """Top and left of each image's seed patch, int32 `[B, 2]`: always the same for the same image and id.

    Drawn with probability proportional to the mean squared gradient within the patch.
    """
    places = images.shape[1] - size + 1
    if places == 1:
        return tf.zeros([tf.shape(images)[0], 2], tf.int32)
    grey = tf.reduce_mean(images, axis=-1, keepdims=True)
    down, right = tf.image.image_gradients(grey)
    energy = tf.square(down) + tf.square(right)
    for window in ((size, 1), (1, size)):
        energy = tf.nn.avg_pool2d(energy, window, 1, "VALID")
    energy = tf.cumsum(tf.reshape(energy, [-1, places**2]) + 1e-12, axis=1)  # a flat image: all places alike
    key = fold_in(fold_in(tf.zeros_like(ids, tf.int64), "seed patch"), ids)
    chosen = tf.reduce_sum(tf.cast(energy <= uniform(key)[:, None] * energy[:, -1:], tf.int32), axis=1)
    chosen = tf.minimum(chosen, places**2 - 1)
    return tf.stack([chosen // places, chosen % places], axis=1)


def draw_transforms(keys: tf.Tensor, channels: int, options: ExemplarOptions) -> Transform:
    """Random parameters, one row for each key (section 2.1 of the paper)."""
    turn = math.radians(options.rotation)
    return Transform(
        shift=uniform(fold_in(keys, "shift"), (2,), -options.translation, options.translation),
        scale=uniform(fold_in(keys, "scale"), (), *options.scale),
        angle=uniform(fold_in(keys, "angle"), (), -turn, turn),
        contrast=uniform(fold_in(keys, "contrast"), (channels,), *options.contrast),
    )


def transform(images: tf.Tensor, corners: tf.Tensor, size: int, parameters: Transform) -> tf.Tensor:
    """Patches `[n, size, size, C]` in [0, 1] of float images `[n, H, W, C]`; bilinear.

    Shift 0, scale 1, angle 0 and contrast 1 give exactly the pixels at the corners (int32 `[n, 2]`).
    """
    middle = (size - 1) / 2
    # from a pixel (x, y) of the patch to one of the image: about the middle, turn and scale; then go to where it lies
    cosine, sine = (parameters.scale * in_double(f, parameters.angle) for f in (tf.cos, tf.sin))
    top, left = tf.unstack(tf.cast(corners, tf.float32) + middle + parameters.shift * size, axis=1)
    matrix = [
        *(cosine, -sine, left - middle * (cosine - sine)),
        *(sine, cosine, top - middle * (sine + cosine)),
        *(tf.zeros_like(sine), tf.zeros_like(sine)),
    ]
    patches = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack(matrix, axis=1),
        output_shape=[size, size],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )
    components = COMPONENTS if images.shape[-1] == 3 else np.ones((1, 1))
    deviation = patches - tf.reduce_mean(patches, axis=[1, 2], keepdims=True)
    stretch = in_double(lambda by: tf.einsum("ck,nk,dk->ncd", components, by, components), parameters.contrast - 1)
    patches = patches + tf.einsum("nhwd,ncd->nhwc", deviation, stretch)
    patches = tf.ensure_shape(patches, [None, size, size, images.shape[-1]])
    return tf.clip_by_value(patches, 0.0, 1.0)


def batch_hard(projection: tf.Tensor, exemplar: tf.Tensor) -> tf.Tensor:
    """Soft-margin triplet loss of each embedding's farthest positive and nearest negative (Hermans et al. 2017).

    Args:
        projection: unit-norm `[b, d]`. exemplar: int64 `[b]`, which seed each is of.
    """
    everything, labels = replicas.gather(projection), replicas.gather(exemplar)
    squared = 2 - 2 * tf.matmul(projection, everything, transpose_b=True)
    distance = tf.sqrt(tf.maximum(squared, 1e-12))
    same = tf.equal(exemplar[:, None], labels)
    itself = tf.one_hot(losses.own_columns(tf.shape(projection)[0]), tf.shape(labels)[0], True, False)
    positive = tf.reduce_max(tf.where(same & ~itself, distance, tf.zeros_like(distance)), axis=1)
    negative = tf.reduce_min(
        tf.where(same, tf.fill(tf.shape(distance), tf.cast(3.0, distance.dtype)), distance), axis=1
    )
    return tf.reduce_mean(tf.nn.softplus(positive - negative))
