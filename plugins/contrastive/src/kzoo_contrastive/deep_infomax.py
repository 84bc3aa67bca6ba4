"""Deep InfoMax (Hjelm, Fedorov, Lavoie-Marchildon, Grewal, Bachman, Trischler, Bengio, ICLR 2019)."""

import math

import keras
import numpy as np
import tensorflow as tf

from kzoo import augment, losses, replicas, sums
from kzoo.errors import OptionsError
from kzoo.layers import BatchNormalization, LayerNormalization
from kzoo.method import Batch, Group, Logs, Method
from kzoo.random import fold_in, uniform
from kzoo_contrastive.parts.local_scores import (
    NearIdentity,
    location_nce,
    negative_count,
    negatives,
    pair_scores,
    positives,
)
from kzoo_contrastive.specs.deep_infomax import DeepInfoMaxOptions


class DeepInfoMax(Method):
    """The code of an image must tell the image's own local features from those of the other images of the batch.

    Images `[B, H, W, C]` -> backbone -> one of its feature maps `[B, M, M, c]`, and the embedding -> Dense(1024),
    batch normalisation, ReLU ("fc") -> Dense(64), the code E(x) ("code"). Map and code each go through a small network
    into a common space; a score is the dot product there. Three terms, each with a weight (0 leaves it out):

    - local: an estimate of the mutual information of code and locations, averaged over the locations;
    - global: the same with the whole map as a single location: it goes through a second copy of what follows it in the
      backbone, and a linear layer, the code through a linear layer, as in the released code (the paper's flattens it);
    - prior: sigmoid(E(x)) is drawn towards the uniform distribution on [0, 1]^64 by a discriminator, which has an
      optimizer of its own and learns after the encoder, from the same codes.

    Downstream go the backbone's outputs, "fc" and "code", which the paper evaluates one by one; its "conv" is the
    embedding of `deep_infomax_encoder`. Deviations from the released code: the estimate of Donsker and Varadhan counts
    its negatives right (there it is off by the log of the number of locations); an image's own locations are wholly
    left out of InfoNCE's negatives (there they keep a weight of e^-10).
    """

    options: DeepInfoMaxOptions
    least_examples = 2

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: DeepInfoMaxOptions) -> Batch:
        size = options.size or batch["image"].shape[1]
        area = options.crop**2
        images = augment.random_resized_crop(
            batch["image"], seed, size, scale=(area, area), ratio=(1.0, 1.0), flip=options.flip
        )
        return {"image": images}

    def build_heads(self) -> None:
        options, outputs = self.options, self.backbone.output
        if options.local not in outputs or not options.local.startswith("map"):
            maps = ", ".join(sorted(name for name in outputs if name.startswith("map"))) or "none"
            raise OptionsError(
                f"method.options.local: backbone '{self.backbone.name}' has no map '{options.local}'; it has: {maps}"
            )
        fc = keras.layers.Dense(options.fc_width, use_bias=False, name="fc_dense")(outputs["embedding"])
        fc = keras.layers.ReLU(name="fc")(BatchNormalization(name="fc_norm")(fc))
        code = keras.layers.Dense(options.code_width, name="code")(fc)
        self.downstream = keras.Model(self.backbone.input, {**outputs, "fc": fc, "code": code}, name="encoder")
        features = outputs[options.local]
        if options.local_weight:
            self.local_scores = [
                _score_network(features.shape[1:], options.units, "local_map"),
                _score_network((options.code_width,), options.units, "local_code"),
            ]
        if options.global_weight:
            self.global_scores = [self._rest_of_encoder(), keras.layers.Dense(options.units, name="global_code")]
            self.global_scores[1].build((None, options.code_width))
        if options.prior_weight:
            widths = [keras.layers.Dense(width, activation="relu", name=f"dense_{width}") for width in (1000, 200)]
            self.discriminator = keras.Sequential([*widths, keras.layers.Dense(1, name="logit")], name="discriminator")
            self.discriminator.build((None, options.code_width))

    @property
    def encoder(self) -> keras.Model:
        return self.downstream

    def _rest_of_encoder(self) -> keras.Model:
        """What follows the local map in the backbone, with weights of its own, and a last layer into the scores' space.

        Raises: OptionsError where the embedding does not follow from that map alone.
        """
        outputs = self.backbone.output
        try:
            rest = keras.Model(outputs[self.options.local], outputs["embedding"])
        except ValueError:
            raise OptionsError(
                f"method.options.local: the embedding of backbone '{self.backbone.name}' does not follow from "
                f"'{self.options.local}' alone, as global_weight needs it; give another map, or global_weight: 0"
            ) from None
        rest = keras.models.clone_model(rest)
        scores = keras.layers.Dense(self.options.units, name="global_scores")(rest.output)
        return keras.Model(rest.input, scores, name="global_map")

    def optimizer_groups(self) -> dict[str, Group]:
        if not self.options.prior_weight:
            return super().optimizer_groups()
        own = self.discriminator.trainable_variables
        return {"main": Group(self.trainable_but(own)), "discriminator": Group(own)}

    def train_step(self, batch: Batch) -> Logs:
        logs = self.minimise(batch, groups="main")
        if self.options.prior_weight:
            seen = {"code": tf.stop_gradient(logs.outputs["code"]), "seed": batch["seed"]}
            found = self.minimise(seen, loss=self.discriminator_loss, groups="discriminator")
            logs["discriminator_loss"] = found["loss"]
        return logs

    def forward(self, batch: Batch, training: bool) -> Batch:
        features = self.downstream(batch["image"], training=training)
        code, local_map = features["code"], features[self.options.local]
        outputs = {"code": code}
        if self.options.local_weight:
            of_map, of_code = self.local_scores
            outputs["local_map"] = of_map(local_map, training=training)
            outputs["local_code"] = of_code(code, training=training)
        if self.options.global_weight:
            of_map, of_code = self.global_scores
            outputs["global_map"] = of_map(local_map, training=training)[:, None, None]  # one location
            outputs["global_code"] = of_code(code)
        return outputs

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """The weighted sum; every score 0: log(1 + (B - 1) M^2) with InfoNCE, else 0, for local and for global."""
        estimate, options = ESTIMATORS[self.options.estimator], self.options
        logs: Logs = {}
        total = []
        for name, weight in (("local", options.local_weight), ("global", options.global_weight)):
            if weight:
                found = estimate(pair_scores(outputs[f"{name}_code"], outputs[f"{name}_map"]))
                total.append(weight * found["loss"])
                logs[f"{name}_loss"] = found["loss"]
                logs.setdefault("information", found["information"])  # local's where there is one
        if options.prior_weight:
            logits = losses.full_precision(self.discriminator(tf.sigmoid(outputs["code"])))
            logs["prior_loss"] = tf.reduce_mean(tf.nn.softplus(-logits))  # non-saturating: log 2 at D = 1/2
            total.append(options.prior_weight * logs["prior_loss"])
        return {"loss": sums.total(total), **logs}

    def discriminator_loss(self, batch: Batch) -> Logs:
        """-log D(uniform noise) - log(1 - D(sigmoid(E(x)))); D = 1/2 everywhere: 2 log 2. The codes are constants."""
        code = batch["code"]
        noise = tf.cast(uniform(fold_in(batch["seed"], "prior"), (code.shape[1],)), code.dtype)
        real = losses.full_precision(self.discriminator(noise))
        fake = losses.full_precision(self.discriminator(tf.sigmoid(code)))
        return {"loss": tf.reduce_mean(tf.nn.softplus(-real)) + tf.reduce_mean(tf.nn.softplus(fake))}

    def chance(self) -> dict[str, float]:
        return {"information": 0.0}

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        """Where in its image a code finds itself (bright), and how its mean score ranks among the images shown."""
        name = "local" if self.options.local_weight else "global"
        outputs = self.forward(batch, training=False)
        scores = np.array(pair_scores(outputs[f"{name}_code"], outputs[f"{name}_map"]))
        rows = np.arange(len(scores))
        own = scores[rows, rows]
        rank = 1 + (scores.mean(2) > own.mean(1)[:, None]).sum(1)
        columns: dict[str, np.ndarray | list[str]] = {"image": batch["image"].numpy()}
        if name == "local":
            side = outputs["local_map"].shape[1]
            heat = (own - own.min(1, keepdims=True)) / np.maximum(np.ptp(own, axis=1, keepdims=True), 1e-6)
            columns["score by location"] = heat.reshape(-1, side, side, 1).astype("float32")
        return {**columns, "its rank": [f"{place} of {len(rank)}" for place in rank]}


def _score_network(input_shape: tuple[int, ...], units: int, name: str) -> keras.Model:
    """Into the space of scores: two 1x1 layers beside a shortcut that starts near the identity, then layer norm."""
    inputs = keras.Input(input_shape, name="features")
    x = keras.layers.Dense(units, use_bias=False, name="hidden")(inputs)
    x = keras.layers.ReLU(name="relu")(BatchNormalization(name="hidden_norm")(x))
    x = keras.layers.Dense(units, name="residual")(x)
    shortcut = keras.layers.Dense(units, use_bias=False, kernel_initializer=NearIdentity(), name="shortcut")(inputs)
    x = LayerNormalization(epsilon=1e-5, name="norm")(keras.layers.Add(name="add")([x, shortcut]))
    return keras.Model(inputs, x, name=name)


def jensen_shannon(scores: tf.Tensor) -> Logs:
    """The Jensen-Shannon estimate (equation 4), shifted to 0 at u = 0: at most 2 log 2.

    Positives log 2 - softplus(-u), negatives softplus(u) - log 2, each their mean.
    """
    positive = math.log(2) - tf.reduce_mean(tf.nn.softplus(-positives(scores)))
    each = tf.nn.softplus(negatives(scores))  # 0 for an image's own locations
    rows = tf.cast(tf.shape(scores)[0], scores.dtype)
    negative = tf.reduce_sum(each) / (rows * negative_count(scores)) - math.log(2)
    return {"loss": negative - positive, "information": positive - negative}


def donsker_varadhan(scores: tf.Tensor) -> Logs:
    """The bound of Donsker and Varadhan on the KL divergence (equation 2): mean of u - log of the mean of e^u."""
    # the mean is over the negatives of all replicas, so that it is the same number whatever their count
    own = tf.reduce_logsumexp(negatives(scores))
    images = tf.cast(tf.shape(scores)[1], scores.dtype)
    negative = tf.reduce_logsumexp(replicas.gather(own[None])) - tf.math.log(images * negative_count(scores))
    positive = tf.reduce_mean(positives(scores))
    return {"loss": negative - positive, "information": positive - negative}


ESTIMATORS = {"jsd": jensen_shannon, "dv": donsker_varadhan, "info_nce": location_nce}
