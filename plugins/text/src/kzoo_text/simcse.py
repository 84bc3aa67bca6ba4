"""SimCSE without labels (Gao, Yao, Chen, "SimCSE: simple contrastive learning of sentence embeddings", EMNLP 2021)."""

import keras
import numpy as np
import tensorflow as tf

from kzoo import losses, replicas
from kzoo.data import Source, evaluation_batches
from kzoo.errors import OptionsError
from kzoo.evaluate import embed
from kzoo.layers import Dropout, every_layer
from kzoo.method import Batch, Logs, Method
from kzoo_text.options import SimCSEOptions
from kzoo_text.tokens import caption
from kzoo_text.transformer import dense

_COMPARED = 2000  # held-out passages whose spread is measured
_BATCH = 256  # passages embedded at once


class SimCSE(Method):
    """Each passage passes the encoder twice; what dropout left out differs; the two must find each other.

    Tokens `[B, T]`, each twice -> backbone `[2B, D]` -> Dense(D), tanh -> unit norm h and h', `[B, D]` -> softmax of
    the cosines of each h with all h' of the global batch, divided by `temperature`, its cross-entropy with the
    passage's own h' (equation 4), in one direction. All equal: log B. The head is dropped downstream.

    A figure of the paper's own: "uniformity" of the held-out embeddings, lower is better, 0 if all are one, -4 at best
    (Wang and Isola 2020, arXiv:2005.10242).

    Deviations: the paper starts from a trained BERT and reads [CLS], `pooling: cls` of the backbone; from nothing, the
    mean learns sooner. Candidates of other replicas pass their gradient on, where the authors' code cuts it, so that
    the result does not depend on the number of replicas.
    """

    options: SimCSEOptions
    least_examples = 2
    has_held_out_loss = False  # without dropout both views of a passage are one

    @staticmethod
    def pretext(batch: Batch, seed: tf.Tensor, options: SimCSEOptions) -> Batch:
        return {"tokens": batch["tokens"]}

    def build_heads(self) -> None:
        rates = [layer.rate for layer in every_layer(self.backbone) if isinstance(layer, Dropout)]
        if not any(rates):
            raise OptionsError(
                [
                    f"{self.name}: {self.backbone.name} has no dropout, so both views of a passage would be one; "
                    "set backbone.options.dropout above 0"
                ]
            )
        self.projector = keras.Sequential([dense(self.width, "dense", activation="tanh")], name="projector")
        self.projector.build((None, self.width))

    def forward(self, batch: Batch, training: bool) -> Batch:
        twice = tf.repeat(batch["tokens"], 2, axis=0)  # the copies of a passage follow each other: dropout tells them
        views = tf.reshape(self.projector(self.embed(twice, training), training=training), [-1, 2, self.width])
        return {"view_0": views[:, 0], "view_1": views[:, 1]}

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        anchors = losses.l2_normalize(outputs["view_0"])
        candidates = replicas.gather(losses.l2_normalize(outputs["view_1"]))
        logits = tf.matmul(anchors, candidates, transpose_b=True) / self.options.temperature
        own = losses.own_columns(tf.shape(anchors)[0])
        return {"loss": losses.cross_entropy(logits, own), "accuracy": losses.accuracy(logits, own)}

    def extra_metrics(self, train: Source, test: Source | None) -> dict[str, float]:
        features = embed(self.encoder, evaluation_batches(test or train, _BATCH)).features[:_COMPARED]
        return {"uniformity": uniformity(features)}

    def visualise(self, raw: Batch, batch: Batch) -> dict[str, np.ndarray | list[str]]:
        """Which other passage of the batch is most like each."""
        if not self.data.vocabulary:
            return {}
        tokens = np.asarray(batch["tokens"])
        features = losses.l2_normalize(self(tokens)).numpy()
        cosines = features @ features.T
        np.fill_diagonal(cosines, -2.0)
        nearest = cosines.argmax(axis=1)
        return {
            "passage": [caption(row, self.data.vocabulary) for row in tokens],
            "most like it": [caption(row, self.data.vocabulary) for row in tokens[nearest]],
            "cosine": [f"{cosines[row, column]:.2f}" for row, column in enumerate(nearest)],
        }


def uniformity(features: np.ndarray) -> float:
    """Log of the mean of exp(-2 |x - y|²) over all pairs of rows `[n, D]`, brought to unit norm."""
    features = features.astype(np.float64)
    features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    squares = np.maximum(2 - 2 * features @ features.T, 0)[np.triu_indices(len(features), 1)]
    return float(np.log(np.exp(-2 * squares).mean()))
