"""BYOL (Grill, Strub, Altché, Tallec, Richemond, Buchatskaya, Doersch, Ávila Pires, Guo, Gheshlaghi Azar, Piot,
Kavukcuoglu, Munos, Valko, "Bootstrap your own latent", NeurIPS 2020).
"""

import tensorflow as tf

from kzoo.layers import mlp_head
from kzoo.method import Batch, Logs
from kzoo.state import EMATeacher
from kzoo_distillation.parts.twins import VIEWS, Twins, cosines, spread
from kzoo_distillation.specs.byol import BYOLOptions


class BYOL(Twins):
    """From one view a predictor says what a slowly moving copy of the network, the target, makes of the other view.

    Two views `[B, h, w, C]` -> backbone `[B, D]` -> projector `[B, 256]` -> predictor `[B, 256]`. The target, a moving
    average of backbone and projector, has no predictor and gets no gradient. The loss is the squared distance of unit
    vectors, 2 - 2 cos, summed over both directions (equation 2): from 0 to 8, and 4 at right angles.

    There are no negatives. What keeps it from giving all images one answer is that the predictor runs ahead of a
    target which follows: after the optimizer's step, at a momentum that rises to 1 by half a cosine. The target
    normalises by the statistics of its own batch.

    Deviations: the target begins as a copy of the network, where the authors draw it anew; colour is clipped once,
    after all steps of the jitter.
    """

    options: BYOLOptions

    def build_heads(self) -> None:
        options = self.options
        self.projector = mlp_head(options.projector, hidden_norm=True, name="projector")
        self.projector.build((None, self.width))
        self.predictor = mlp_head(options.predictor, hidden_norm=True, name="predictor")
        self.predictor.build((None, options.projector[-1]))
        self.target = EMATeacher([self.backbone, self.projector], name="target")

    def train_step(self, batch: Batch) -> Logs:
        momentum = self.value(self.options.momentum)  # of this step, which `minimise` counts
        logs = self.minimise({**batch, **self.targets(batch, training=True)})
        self.target.update(momentum)
        return logs

    def test_step(self, batch: Batch) -> Logs:
        return super().test_step({**batch, **self.targets(batch, training=False)})

    def targets(self, batch: Batch, training: bool) -> Batch:
        """What the target makes of each view, `[b, 256]`, without gradient."""
        return {f"target_{number}": self.target(batch[view], training=training) for number, view in enumerate(VIEWS)}

    def forward(self, batch: Batch, training: bool) -> Batch:
        outputs = {}
        for number, view in enumerate(VIEWS):
            z = self.projector(self.embed(batch[view], training), training=training)
            outputs |= {f"z_{number}": z, f"p_{number}": self.predictor(z, training=training)}
        return outputs

    def loss(self, outputs: Batch, batch: Batch) -> Logs:
        """Both directions. "spread": of the projections, about 1; 0 tells of collapse."""
        first = 2.0 - 2.0 * cosines(outputs["p_0"], batch["target_1"])
        second = 2.0 - 2.0 * cosines(outputs["p_1"], batch["target_0"])
        return {"loss": tf.reduce_mean(first + second), "spread": spread(outputs["z_0"])}

    def chance(self) -> dict[str, float]:
        return {"loss": 4.0}
