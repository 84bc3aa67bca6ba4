"""A method that keeps the contract, and many that break it in one place each."""

import keras
import tensorflow as tf
from faulty_options import GoodOptions

from kzoo import losses, replicas
from kzoo.data import resize_and_crop, to_float
from kzoo.method import Group, Method
from kzoo.random import bernoulli, fold_in, normal
from kzoo.specs import MethodSpec
from kzoo.state import EMATeacher, Queue


def spec(target, /, options=GoodOptions, **more):
    """The record of a class here."""
    about = {"name": target.lower(), "family": "faulty", "summary": f"What {target} does", "paper": "Someone 2020"}
    return MethodSpec(**about | {"target": f"faulty_methods:{target}", "options": options, **more})


def view(images, seed):
    flipped = tf.where(bernoulli(seed, 0.5)[:, None, None, None], tf.reverse(images, [2]), images)
    return flipped + 0.1 * normal(fold_in(seed, "noise"), images.shape[1:])


class Good(Method):
    """A small MoCo: two noisy views, a teacher, a queue."""

    options: GoodOptions

    @staticmethod
    def pretext(batch, seed, options):
        images = resize_and_crop(to_float(batch["image"]), batch["image"].shape[1])
        return {"view_0": view(images, fold_in(seed, 0)), "view_1": view(images, fold_in(seed, 1))}

    def build_heads(self):
        self.projector = keras.layers.Dense(self.options.width, name="projector")
        self.projector.build((None, self.width))
        self.teacher = EMATeacher([self.backbone])
        self.queue = Queue(64, self.options.width)

    def encode(self, images):
        return losses.l2_normalize(self.projector(self.teacher(images)))

    def train_step(self, batch):
        keys = tf.stop_gradient(self.encode(batch["view_1"]))
        logs = self.minimise({**batch, "keys": keys})
        self.teacher.update(0.9)
        self.queue.enqueue(keys)
        return logs

    def forward(self, batch, training):
        return {"query": losses.l2_normalize(self.projector(self.embed(batch["view_0"], training)))}

    def loss(self, outputs, batch):
        keys = batch["keys"] if "keys" in batch else self.encode(batch["view_1"])
        logits = losses.info_nce_logits(outputs["query"], keys, self.queue.read(), self.options.temperature)
        return losses.cross_entropy(logits, tf.zeros(tf.shape(logits)[0], tf.int32))


# ---- the record ------------------------------------------------------------------------------------------------------


class ObjectPretext(Good):
    def pretext(self, batch, seed, options):
        return Good.pretext(batch, seed, options)


class ObjectChoice(Good):
    def choose(self, known, seed, options):
        return {}


NoMethod = keras.Model


# ---- the pretext -----------------------------------------------------------------------------------------------------


class StatefulPretext(Good):
    @staticmethod
    def pretext(batch, seed, options):
        images = to_float(batch["image"])
        return {"view_0": images, "view_1": images + tf.random.normal(images.shape)}


class SharedChoice(Good):
    @staticmethod
    def choose(known, seed, options):
        return {"place": tf.repeat(normal(seed[:1]), tf.shape(seed)[0])}


class SharedDraw(Good):
    @staticmethod
    def pretext(batch, seed, options):
        return Good.pretext(batch, tf.repeat(seed[:1], len(seed)), options)


class BatchDependent(Good):
    @staticmethod
    def pretext(batch, seed, options):
        views = Good.pretext(batch, seed, options)
        return {**views, "view_1": views["view_1"] - tf.reduce_mean(views["view_1"])}


class ViewAfterView(Good):
    @staticmethod
    def pretext(batch, seed, options):
        views = Good.pretext(batch, seed, options)
        return {"views": tf.concat([views["view_0"], views["view_1"]], axis=0)}


class EqualViews(Good):
    @staticmethod
    def pretext(batch, seed, options):
        one = view(to_float(batch["image"]), seed)
        return {"view_0": one, "view_1": one}


class OddAxis(Good):
    @staticmethod
    def pretext(batch, seed, options):
        views = Good.pretext(batch, seed, options)
        return {**views, "mean": tf.reduce_mean(views["view_0"])[None]}


class InfinitePretext(Good):
    @staticmethod
    def pretext(batch, seed, options):
        views = Good.pretext(batch, seed, options)
        return {**views, "view_1": views["view_1"] / 0.0}


class NestedPretext(Good):
    @staticmethod
    def pretext(batch, seed, options):
        return {"views": list(Good.pretext(batch, seed, options).values())}


# ---- gradients -------------------------------------------------------------------------------------------------------


class Uint8Views(Good):
    @staticmethod
    def pretext(batch, seed, options):
        views = Good.pretext(batch, seed, options)
        return {name: tf.cast(255 * tf.clip_by_value(value, 0.0, 1.0), tf.uint8) for name, value in views.items()}


# ---- one step --------------------------------------------------------------------------------------------------------


class VectorLoss(Good):
    def loss(self, outputs, batch):
        return tf.reduce_sum(tf.square(outputs["query"]), axis=1)


class SummedLoss(Good):
    def loss(self, outputs, batch):
        return super().loss(outputs, batch) * tf.cast(tf.shape(outputs["query"])[0], outputs["query"].dtype)


class SummedContrast(Good):
    """Each query among the keys of its own batch, summed."""

    def loss(self, outputs, batch):
        keys = self.encode(batch["view_1"])
        logits = tf.matmul(outputs["query"], replicas.gather(keys), transpose_b=True) / self.options.temperature
        count = tf.cast(tf.shape(keys)[0], keys.dtype)
        return count * losses.cross_entropy(logits, losses.own_columns(tf.shape(keys)[0]))


class OwnVariable(Good):
    """Counts its steps in a variable of TensorFlow."""

    def build_heads(self):
        super().build_heads()
        self.steps_made = tf.Variable(0.0)

    def train_step(self, batch):
        self.steps_made.assign_add(1.0)
        return super().train_step(batch)


class DeafInTraining(Good):
    def forward(self, batch, training):
        return super().forward(batch, False)


class AlwaysTraining(Good):
    def forward(self, batch, training):
        return super().forward(batch, True)


class HalfQueue(Good):
    """Remembers what a closure caught: the last of the batch's parts."""

    def train_step(self, batch):
        logs = self.minimise(batch)
        self.queue.enqueue(self.caught)
        return logs

    def forward(self, batch, training):
        outputs = super().forward(batch, training)
        self.caught = tf.stop_gradient(outputs["query"])
        return outputs


class TaughtTeacher(Good):
    """The optimizer updates the teacher."""

    def encode(self, images):
        return losses.l2_normalize(self.projector(self.teacher.models[0](images)["embedding"]))

    def train_step(self, batch):
        return self.minimise(batch)

    def optimizer_groups(self):
        return {"main": Group([*self.trainable_variables, *(ours for ours, _ in self.teacher.pairs)])}


class Unused(Good):
    def build_heads(self):
        super().build_heads()
        self.spare = keras.layers.Dense(4, name="spare")
        self.spare.build((None, self.width))


class Severed(Good):
    """A layer reaches the loss with factor 0."""

    def build_heads(self):
        super().build_heads()
        self.bonus = keras.layers.Dense(self.options.width, name="bonus")
        self.bonus.build((None, self.width))

    def forward(self, batch, training):
        embedding = self.embed(batch["view_0"], training)
        return {"query": losses.l2_normalize(self.projector(embedding) + 0.0 * self.bonus(embedding))}


class TwoOwners(Good):
    """The projector is trained, and also drawn towards 0 by hand."""

    def train_step(self, batch):
        logs = super().train_step(batch)
        self.projector.kernel.assign(0.9 * self.projector.kernel)
        return logs


class Ungrouped(Good):
    def optimizer_groups(self):
        return {"main": Group(self.backbone.trainable_variables)}


class Undeclared(Good):
    """Updates, by an optimizer of its own, what no group names."""

    def build_heads(self):
        super().build_heads()
        self.extra = self.add_weight(shape=(1,), trainable=False, name="extra")
        self.own_optimizer = keras.optimizers.SGD(0.1)

    def train_step(self, batch):
        self.own_optimizer.apply([tf.ones_like(self.extra)], [self.extra])
        return super().train_step(batch)


# ---- training --------------------------------------------------------------------------------------------------------


class NotANumber(Good):
    def loss(self, outputs, batch):
        loss = super().loss(outputs, batch)
        return loss + tf.math.log(-tf.ones_like(loss))


class Idle(Good):
    def train_step(self, batch):
        return {"loss": self.loss(self.forward(batch, training=False), batch)}


class Boastful(Good):
    def chance(self):
        return {"accuracy": 0.5}


class Rising(Good):
    def loss(self, outputs, batch):
        return -super().loss(outputs, batch)

    def minimise(self, batch):
        return {"loss": -super().minimise(batch)["loss"]}


class StatefulStep(Good):
    def forward(self, batch, training):
        noise = tf.random.normal([self.options.width], dtype=self.projector.compute_dtype)
        return {"query": losses.l2_normalize(super().forward(batch, training)["query"] + noise)}


class Collapsing(Good):
    """Draws all embeddings together."""

    def loss(self, outputs, batch):
        embedding = losses.l2_normalize(outputs["embedding"])
        return 10.0 * (1.0 - tf.reduce_mean(tf.matmul(embedding, embedding, transpose_b=True)))

    def forward(self, batch, training):
        return {"embedding": self.embed(batch["view_0"], training)}


class Overflowing(Good):
    """Squares what half precision cannot hold."""

    def forward(self, batch, training):
        query = self.projector(self.embed(batch["view_0"], training))
        return {"query": query, "size": tf.reduce_mean(tf.square(300.0 * tf.ones_like(query)))}

    def loss(self, outputs, batch):
        return super().loss(outputs, batch) + 1e-6 * tf.cast(outputs["size"], outputs["query"].dtype)


class FixedSize(Good):
    @staticmethod
    def pretext(batch, seed, options):
        views = Good.pretext(batch, seed, options)
        return {key: tf.ensure_shape(value, [None, 32, 32, 3]) for key, value in views.items()}


class OtherAnswer(Good):
    """Answers something else than its encoder, which is what is exported."""

    def call(self, images, training=False):
        return 2.0 * super().call(images, training)


# ---- replicas, reloading, resuming -----------------------------------------------------------------------------------


class NaiveMean(Good):
    """Forgets that gradients are summed over the replicas."""

    def minimise(self, batch):
        with tf.GradientTape() as tape:
            loss = self.loss(self.forward(batch, training=True), batch)
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        return {"loss": loss}


class Pairwise(Good):
    """Its negatives are the other examples of the batch."""

    def loss(self, outputs, batch):
        keys = self.encode(batch["view_1"])
        logits = tf.matmul(outputs["query"], keys, transpose_b=True) / self.options.temperature
        return losses.cross_entropy(logits, tf.range(tf.shape(logits)[0]))


class PairwiseAndSaysSo(Pairwise):
    least_examples = 2


class NoKernel(Good):
    """Its loss has an operation that XLA has no kernel for."""

    def loss(self, outputs, batch):
        query = outputs["query"]
        gram = tf.eye(query.shape[-1], dtype=query.dtype) + tf.matmul(query, query, transpose_a=True)
        return super().loss(outputs, batch) + tf.linalg.slogdet(gram)[1]


class NoKernelAndSaysSo(NoKernel):
    xla = False


class OwnQueue(Good):
    """Enqueues the keys of its own part of the batch only."""

    def train_step(self, batch):
        logs = super().train_step(batch)
        keys = self.encode(batch["view_1"])
        rows = tf.range(tf.shape(keys)[0])
        replicas.local(self.queue.keys).scatter_update(tf.IndexedSlices(keys, rows))
        return logs


class Forgetful(Good):
    """Takes a parameter that its configuration lacks, and counts its steps where no checkpoint looks."""

    def __init__(self, backbone, options=None, *, data=None, name=None, bonus=0.0, **values):
        self.bonus = bonus
        counter = tf.Variable(0.0, dtype=tf.float64)
        self.counter = lambda: counter
        super().__init__(backbone, options, data=data, name=name, **values)

    def loss(self, outputs, batch):
        loss = super().loss(outputs, batch)
        return loss * (1.0 + 0.1 * tf.cast(self.counter().assign_add(1.0), loss.dtype))
