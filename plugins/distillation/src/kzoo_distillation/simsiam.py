"""SimSiam (Chen, He, "Exploring simple siamese representation learning", CVPR 2021)."""

import tensorflow as tf

from kzoo.layers import mlp_head
from kzoo.method import Batch, Group, Logs
from kzoo_distillation.parts.twins import VIEWS, Twins, cosines, spread
from kzoo_distillation.specs.simsiam import SimSiamOptions


class SimSiam(Twins):
    """From one view a predictor says what the same network makes of the other view; the answer has no gradient.

    Two views `[B, h, w, C]` -> backbone `[B, D]` -> projector, normalised at its end without scale and shift: z
    `[B, 2048]` -> predictor, a bottleneck: p `[B, 2048]`. The loss is the mean of -cos(p, z) over both directions
    (equations 1 to 3), from -1 to 1. No negatives, no second network: what is predicted is only held still
    (`stop_gradient`), and without that all images soon get one answer and the loss is -1.

    The predictor keeps its learning rate while the others' falls (section 4.2): it should follow the latest z.

    Deviations: colour is clipped once, after all steps of the jitter; Dense layers start as Keras draws them.
    """

    options: SimSiamOptions

    def build_heads(self) -> None:
        options = self.options
        self.projector = mlp_head(options.projector, hidden_norm=True, final_norm="no_affine", name="projector")
        self.projector.build((None, self.width))
        self.predictor = mlp_head([options.bottleneck, options.projector[-1]], hidden_norm=True, name="predictor")
        self.predictor.build((None, options.projector[-1]))

    def optimizer_groups(self) -> dict[str, Group]:
        predictor = self.predictor.trainable_variables
        return {"main": Group(self.trainable_but(predictor)), "predictor": Group(predictor, constant_rate=True)}

    def forward(self, batch: Batch, training: bool) -> Batch:
        outputs = {}
        for number, view in enumerate(VIEWS):
            z = self.projector(self.embed(batch[view], training), training=training)
            outputs |= {f"z_{number}": z, f"p_{number}": self.predictor(z, training=training)}
        return outputs

    def answers(self, outputs: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """What is predicted, z of both views, held still."""
        return tf.stop_gradient(outputs["z_0"]), tf.stop_gradient(outputs["z_1"])

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """-1 where each view's answer is foretold. "spread": of the projections, about 1; 0 tells of collapse."""
        answer_0, answer_1 = self.answers(outputs)
        alike = cosines(outputs["p_0"], answer_1) + cosines(outputs["p_1"], answer_0)
        return {"loss": -0.5 * tf.reduce_mean(alike), "spread": spread(outputs["z_0"])}

    def chance(self) -> dict[str, float]:
        return {"loss": 0.0}
