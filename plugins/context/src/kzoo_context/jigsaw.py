"""Jigsaw puzzles (Noroozi, Favaro, "Unsupervised learning of visual representations by solving jigsaw puzzles", ECCV
2016).
"""

import itertools
import math
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kzoo import augment, losses
from kzoo.errors import OptionsError
from kzoo.layers import mlp_head
from kzoo.method import Batch, Logs, Method
from kzoo.random import fold_in, integers, uniform
from kzoo_context.options import JigsawOptions
from kzoo_context.parts import BUILD_SIDE, EvenContrast, cut, dropout, embed_parts, encoder_after, keys_of, square
from kzoo_context.permutations import permutation_set


class Geometry(NamedTuple):
    """Sides in pixels. The puzzle is grid x grid cells; in each cell lies a tile; a channel moves by up to shift."""

    cell: int
    tile: int
    shift: int


def geometry(side: int, options: JigsawOptions) -> Geometry:
    """The puzzle of an image of so many pixels. With the paper's crop of 0.879, 256 pixels: cells of 75, tiles of 64.

    Without a crop, 28 pixels give cells of 9 and tiles of 7, 64 pixels cells of 21 and tiles of 17, in a 3 x 3 grid.
    Raises: OptionsError where a tile would have less than 4 pixels.
    """
    cell = int(side * options.crop) // options.grid
    tile = int(cell * options.tile + 1e-6)
    if tile < 4:
        raise OptionsError(
            f"jigsaw: tiles of {tile} pixels, from images of {side}; raise method.options.size, crop or tile"
        )
    return Geometry(cell, tile, round(cell * options.channel_shift))


class Jigsaw(Method):
    """Cut an image in 3 x 3 tiles, shuffle them by one of K permutations; the network names the permutation.

    Image `[B, H, W, C]` -> grey with probability 0.3 -> puzzle at a random place -> in each cell a tile at a random
    place, so that there are gaps and no two edges meet -> each tile's colour channels moved, scaled and brightened at
    random -> shuffled tiles `[9 B, t, t, C]` -> each tile evened to mean 0 and standard deviation 1, and through the
    backbone, by itself: the context-free network -> Dense(1024), ReLU, dropout per tile -> the nine side by side
    `[B, 9216]` -> Dense(4096), ReLU, dropout -> Dense(K) -> cross-entropy. Uniform logits cost log K. Images are not
    mirrored.

    Tile k of the shuffled puzzle is tile `permutations[label][k]` of the image. The set follows from the options
    (`permutation_set`). Downstream, whole images are evened out as tiles are.

    Deviations: any convolutional backbone, whose pooled embedding goes into the first Dense layer, where the paper
    flattens the last map of AlexNet; the permutations are further apart. Colour is changed as in the PyTorch port of
    the authors' code (bbrattoli/JigsawPuzzlePytorch).
    """

    options: JigsawOptions

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: JigsawOptions) -> Batch:
        images = augment.greyscale(square(batch["image"], options.size), seed, options.greyscale)
        tiles = recolour(tiles_of(images, seed, options), seed, options)
        orders = permutation_set(options.grid**2, options.permutations)
        label = integers(fold_in(seed, "permutation"), (), 0, len(orders))
        shuffled = tf.gather(tiles, tf.gather(orders, label), axis=1, batch_dims=1)
        return {"tiles": tf.reshape(shuffled, [-1, *shuffled.shape[2:]]), "permutation": label}

    def build_heads(self) -> None:
        options = self.options
        self.permutations = permutation_set(options.grid**2, options.permutations)
        self.even_encoder = encoder_after(self, EvenContrast(name="even_contrast"))
        self.tile_features = keras.layers.Dense(options.features, activation="relu", name="tile_features")
        self.tile_features.build((None, self.width))
        self.classifier = mlp_head((*options.hidden, options.permutations), name="classifier")
        self.classifier.build((None, options.grid**2 * options.features))

    @property
    def input_size(self) -> int:
        return self.options.size or BUILD_SIDE

    @property
    def encoder(self) -> keras.Model:
        return self.even_encoder

    def features_of(self, tiles: tf.Tensor, training: bool) -> tf.Tensor:
        """What each tile is, without regard to the others: `[B * 9, t, t, C]` to `[B, 9, features]`."""
        features = self.tile_features(embed_parts(self, tiles, training))
        return tf.reshape(features, [-1, self.options.grid**2, self.options.features])

    def forward(self, batch: Batch, training: bool) -> Batch:
        features = self.features_of(batch["tiles"], training)
        if training:
            features = dropout(features, batch["seed"], self.options.dropout)
        x = tf.reshape(features, [-1, self.options.grid**2 * self.options.features])
        for layer in self.classifier.layers:
            x = layer(x)
            if training and isinstance(layer, keras.layers.ReLU):
                x = dropout(x, fold_in(batch["seed"], layer.name), self.options.dropout)
        return {"logits": x}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        logits, label = outputs["logits"], batch["permutation"]
        return {"loss": losses.cross_entropy(logits, label), "accuracy": losses.accuracy(logits, label)}

    def chance(self) -> dict[str, float]:
        return {"loss": math.log(self.options.permutations), "accuracy": 1 / self.options.permutations}

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        label = np.asarray(batch["permutation"])
        answer = np.argmax(self.forward(batch, training=False)["logits"], axis=1)
        tiles = np.asarray(batch["tiles"]).reshape(len(label), self.options.grid**2, *batch["tiles"].shape[1:])
        back = np.argsort(self.permutations, axis=1)
        rows = np.arange(len(label))[:, None]
        placed = (self.permutations[answer] == self.permutations[label]).sum(axis=1)
        return {
            "shuffled": joined(tiles),
            "solved": joined(tiles[rows, back[answer]]),
            "true": joined(tiles[rows, back[label]]),
            "answer": [f"{right} of {tiles.shape[1]} tiles\nin place" for right in placed],
        }


def tiles_of(images: tf.Tensor, seed: tf.Tensor, options: JigsawOptions) -> tf.Tensor:
    """The tiles of each image in reading order, each at a random place in its cell: `[B, 9, t, t, C]`."""
    side, channels, tiles = images.shape[1], images.shape[3], options.grid**2
    cell, tile, shift = geometry(side, options)
    cells = cell * np.array(list(itertools.product(range(options.grid), repeat=2)), np.int32)  # [9, 2], top and left
    origin = integers(fold_in(seed, "crop"), (2,), 0, side - options.grid * cell + 1)
    place = integers(fold_in(seed, "place"), (tiles, 2), 0, cell - tile + 1)
    moved = integers(fold_in(seed, "channel_shift"), (channels, tiles, 2), -shift, shift + 1)
    if channels == 1 or not shift:
        return cut(images, origin[:, None] + cells + place, tile)
    place = tf.clip_by_value(place[:, None] + moved, 0, cell - tile)  # no channel leaves its cell: the gaps stay
    corners = origin[:, None, None] + cells + place
    return tf.concat([cut(images[..., c : c + 1], corners[:, c], tile) for c in range(channels)], axis=-1)


def recolour(tiles: tf.Tensor, seed: tf.Tensor, options: JigsawOptions) -> tf.Tensor:
    """Scale each channel of each tile, and brighten the tile, at random; clipped to [0, 1]."""
    keys = keys_of(seed, tiles.shape[1], "recolour")
    scale = uniform(fold_in(keys, "scale"), (tiles.shape[-1],), 1 - options.channel_scale, 1 + options.channel_scale)
    shift = uniform(fold_in(keys, "brightness"), (1,), -options.brightness, options.brightness)
    per_tile = [-1, tiles.shape[1], 1, 1]
    scale, shift = tf.reshape(scale, [*per_tile, tiles.shape[-1]]), tf.reshape(shift, [*per_tile, 1])
    return tf.clip_by_value(tiles * scale + shift, 0.0, 1.0)


def joined(tiles: np.ndarray) -> np.ndarray:
    """Tiles `[n, grid * grid, t, t, C]` side by side, as pictures `[n, grid * t, grid * t, C]`."""
    count, number, side, _, channels = tiles.shape
    grid = math.isqrt(number)
    picture = tiles.reshape(count, grid, grid, side, side, channels).transpose(0, 1, 3, 2, 4, 5)
    return picture.reshape(count, grid * side, grid * side, channels)
