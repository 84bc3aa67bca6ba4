"""CPC (van den Oord, Li, Vinyals, "Representation learning with contrastive predictive coding", 2018), on images."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kzoo import augment, losses, replicas, sums
from kzoo.errors import OptionsError
from kzoo.layers import every_layer
from kzoo.method import Batch, Logs, Method
from kzoo.random import fold_in, integers
from kzoo_contrastive.parts import patches
from kzoo_contrastive.specs.cpc import CPCOptions


class CPC(Method):
    """From the rows of patches above, tell which patch of the whole batch comes k rows further down.

    Image `[B, H, W, C]` -> random crop, flip, greyscale -> a grid of G x G overlapping patches, each shifted by up to a
    32nd of its side behind a border of zeros -> backbone, patch by patch -> z `[B, G, G, D]` -> masked convolutions ->
    context c `[B, G, G, D]`, which at row i sees rows 0..i only -> W_k c_ij predicts z_(i+k)j, k = 1..5, by InfoNCE
    among all B G^2 patches of the batch: other images and other places are the negatives.

    The geometry is relative to the image (`kzoo_contrastive.parts.patches`): the paper's is 7 x 7 patches of 64 px in
    256. A patch must not see the others: with batch normalisation they would through its statistics, so take a backbone
    without it (`backbone.options.norm: layer` or `none`), one that takes images of any size.

    Downstream goes the paper's representation, the mean of the embeddings of an image's patches, and "map" `[B, G, G,
    D]`; or, with `downstream: image`, the backbone on the whole image, of a size that it was not trained on.
    Deviation: the paper's context network is a PixelCNN of which it says no more; here that of CPC v2's appendix.
    """

    options: CPCOptions
    directions: tuple[str, ...] = ("down",)

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: CPCOptions) -> Batch:
        keys = patch_keys(seed, options.grid)
        cells = patches.split(crop_to_mosaic(batch["image"], seed, options), options.grid)
        return {"patches": patches.join(crop_and_pad(cells, keys), options.grid)}

    def build_heads(self) -> None:
        self._check_backbone()
        self.predictors = [self.predictor(direction) for direction in self.directions]
        grid = self.options.grid
        for each in self.predictors:
            each.build((None, grid, grid, self.width))
        self.patch_encoder = patches.patch_encoder(self.backbone, grid, self.options.patch)

    def predictor(self, direction: str) -> "Predictor":
        """What predicts in one direction. v1: W_k c against z itself, W_k without bias."""
        options = self.options
        steps = range(options.skip + 1, options.steps + 1)
        return Predictor(steps, options.context_layers, options.context_width, name=direction)

    def _check_backbone(self) -> None:
        name, side = self.backbone.name, self.backbone.input_shape[1]
        if side is not None:
            raise OptionsError(
                f"{self.name}: backbone '{name}' takes images of {side} px only, and is to embed patches; build it "
                "with input_shape=(None, None, channels)"
            )
        norms = [x.name for x in every_layer(self.backbone) if isinstance(x, keras.layers.BatchNormalization)]
        if norms and not self.options.batch_norm:
            raise OptionsError(
                f"{self.name}: backbone '{name}' normalises over the batch ('{norms[0]}'), through which patches see "
                "each other; take one that does not (backbone.options.norm: layer) or set method.options.batch_norm"
            )
        length = patches.positions(self.input_size, self.options.grid, self.options.patch).shape[1]
        try:
            self.backbone.compute_output_shape((1, length, length, self.backbone.input_shape[-1]))
        except ValueError:  # a map without locations
            raise OptionsError(
                f"{self.name}: patches of {length} px, of images of {self.input_size}, are too small for backbone "
                f"'{name}'; give a larger method.options.size or patch"
            ) from None

    @property
    def encoder(self) -> keras.Model:
        return self.patch_encoder if self.options.downstream == "patches" else self.backbone

    def embed_patches(self, mosaic: tf.Tensor, training: bool) -> tf.Tensor:
        """z `[B, G, G, D]` of a mosaic."""
        grid = self.options.grid
        z = self.embed(patches.split(mosaic, grid), training)
        return tf.reshape(z, [-1, grid, grid, self.width])

    def forward(self, batch: Batch, training: bool) -> Batch:
        z = self.embed_patches(batch["patches"], training)
        return {
            f"{each.name}_{key}": value for each in self.predictors for key, value in each(turn(z, each.name)).items()
        }

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """InfoNCE (equation 4), the mean over directions, distances k and positions. All scores equal: log(B G^2)."""
        figures = [
            self._info_nce(outputs[f"{each.name}_{step}"], outputs[f"{each.name}_targets"], step)
            for each in self.predictors
            for step in each.steps
        ]
        return {key: sums.total([one[key] for one in figures]) / len(figures) for key in figures[0]}

    def _info_nce(self, predicted: tf.Tensor, targets: tf.Tensor, step: int) -> Logs:
        """Predictions `[b, G, G, d]` of the targets `step` rows below, among all replicas' targets."""
        grid = self.options.grid
        width = targets.shape[3]
        everything = tf.reshape(replicas.gather(targets), [-1, width])
        logits = tf.matmul(tf.reshape(predicted[:, :-step], [-1, width]), everything, transpose_b=True)
        own = losses.own_columns(tf.shape(predicted)[0])  # of images
        below = np.arange(step * grid, grid * grid)  # the targets' numbers within an image
        labels = tf.reshape(own[:, None] * grid * grid + below, [-1])
        loss = losses.cross_entropy(logits, labels)
        chance = tf.math.log(tf.cast(tf.shape(everything)[0], loss.dtype))
        return {"loss": loss, "accuracy": losses.accuracy(logits, labels), "information": chance - loss}

    def chance(self) -> dict[str, float]:
        return {"information": 0.0}  # log N - L, the paper's bound on the mutual information in nats

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        """The upper rows of an image, the patch that follows in the middle column, and the one the method picks."""
        grid, first = self.options.grid, self.predictors[0]
        step = first.steps[0]
        row, column = max(0, grid // 2 - step), grid // 2
        outputs = first(self.embed_patches(batch["patches"], training=False))
        query = np.array(outputs[str(step)])[:, row, column]
        picked = np.argmax(query @ np.array(outputs["targets"]).reshape(-1, query.shape[1]).T, axis=1)
        true = np.arange(len(query)) * grid * grid + (row + step) * grid + column
        cells = patches.split(batch["patches"], grid).numpy()
        seen = batch["patches"].numpy().copy()
        seen[:, (row + 1) * cells.shape[1] :] = 0.5
        return {"context": seen, "what follows": cells[true], "what it picks": cells[picked]}


class Context(keras.layers.Layer):
    """Masked convolutions over the rows above: residual layers of 1x1, 1x3, 2x1 and 1x1 (Hénaff et al., appendix A.1).

    The 2x1 convolution sees a row and the one above, so that c at row i depends on rows 0..i, of any column.
    Input shape: `[B, G, G, D]`. Output shape: the same.
    """

    def __init__(self, layers: int, width: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.count, self.inner = layers, width

    def build(self, input_shape: tuple[Any, ...]) -> None:
        def convolution(shape: Any, filters: int, size: tuple[int, int], padding: str, name: str) -> Any:
            layer = keras.layers.Conv2D(filters, size, padding=padding, dtype=self.dtype_policy, name=name)
            layer.build(shape)
            return layer

        inside = (*input_shape[:-1], self.inner)
        self.layers_in_order = [
            (
                convolution(input_shape, self.inner, (1, 1), "valid", f"reduce_{index}"),
                convolution(inside, self.inner, (1, 3), "same", f"across_{index}"),
                convolution(inside, self.inner, (2, 1), "valid", f"down_{index}"),
                convolution(inside, input_shape[-1], (1, 1), "valid", f"expand_{index}"),
            )
            for index in range(self.count)
        ]

    def call(self, inputs: Any) -> Any:
        x = inputs
        for reduce, across, down, expand in self.layers_in_order:
            c = across(tf.nn.relu(reduce(x)))
            c = tf.nn.relu(down(tf.pad(c, [[0, 0], [1, 0], [0, 0], [0, 0]])))
            x = x + expand(c)
        return tf.nn.relu(x)


class Predictor(keras.layers.Layer):
    """Context and one matrix W_k for each distance, in one direction.

    Args:
        steps: the distances k. target_width: project targets to so many channels (CPC v2); none: predict z itself.
        scale: factor on the predictions.
    Input shape: z `[B, G, G, D]`. Output: "targets" and the predictions "1", "2", ... of k, all `[B, G, G, d]`.
    """

    def __init__(
        self,
        steps: range,
        context_layers: int,
        context_width: int,
        target_width: int | None = None,
        scale: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.steps, self.target_width, self.scale = steps, target_width, scale
        self.context = Context(context_layers, context_width, name="context")

    def build(self, input_shape: tuple[Any, ...]) -> None:
        width, bias = self.target_width or input_shape[-1], self.target_width is not None
        self.context.build(input_shape)
        # v1: a tenth of Glorot's range, so that scores, sums of two thousand products, begin small, the loss at log N
        drawn = keras.initializers.VarianceScaling(1.0 if bias else 0.01, "fan_avg", "uniform")
        self.matrices = [
            keras.layers.Dense(width, use_bias=bias, kernel_initializer=drawn.clone(), name=f"w_{step}")
            for step in self.steps
        ]
        self.target = keras.layers.Dense(width, name="target") if bias else None
        for layer in [*self.matrices, *([self.target] if self.target else [])]:
            layer.build(input_shape)

    def call(self, inputs: Any) -> dict[str, Any]:
        context = self.context(inputs)
        predicted = {
            str(step): matrix(context) * self.scale for step, matrix in zip(self.steps, self.matrices, strict=True)
        }
        return {"targets": self.target(inputs) if self.target else inputs, **predicted}


def turn(z: tf.Tensor, direction: str) -> tf.Tensor:
    """A grid `[B, G, G, D]` mirrored or transposed, so that what lies in `direction` lies below."""
    if direction in ("left", "right"):
        z = tf.transpose(z, [0, 2, 1, 3])
    return tf.reverse(z, [1]) if direction in ("up", "left") else z


def patch_keys(seed: tf.Tensor, grid: int) -> tf.Tensor:
    """A key for each patch of each image, int64 `[B G G]`."""
    each = tf.tile(tf.range(grid * grid), [tf.shape(seed)[0]])
    return fold_in(tf.repeat(seed, grid * grid), each)


def crop_to_mosaic(images: tf.Tensor, seed: tf.Tensor, options: CPCOptions) -> tf.Tensor:
    """Random crop, flip and greyscale of whole images, then their patches, `[B, G p, G p, C]`."""
    size, area = options.size or images.shape[1], options.crop**2
    images = augment.random_resized_crop(images, seed, size, scale=(area, area), ratio=(1.0, 1.0), flip=options.flip)
    return patches.cut(augment.greyscale(images, seed, options.greyscale_p), options.grid, options.patch)


def crop_and_pad(cells: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    """Crop each patch at random to 15/16 of its side (60 of 64 px) and pad it with zeros to what it was."""
    side = cells.shape[1]
    lost = max(1, round(side / 16))
    offset = integers(fold_in(keys, "crop"), (2,), 0, lost + 1)
    place = np.arange(side) - lost // 2  # within the crop
    inside = ((place >= 0) & (place < side - lost)).astype("float32")

    def along(x: tf.Tensor, start: tf.Tensor, axis: int) -> tf.Tensor:
        return tf.gather(x, tf.clip_by_value(start[:, None] + place, 0, side - 1), axis=axis, batch_dims=1)

    cropped = along(along(cells, offset[:, 0], 1), offset[:, 1], 2)
    return cropped * inside[:, None, None] * inside[:, None]
