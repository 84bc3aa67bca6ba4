"""What the base class owns, shown on a method small enough to work out by hand."""

from contextlib import nullcontext

import keras
import numpy as np
import pytest
import tensorflow as tf
from pydantic import Field

import kzoo
from kzoo import optimizers
from kzoo.base.bridge import Bridge
from kzoo.data import array_source
from kzoo.errors import DataError, OptionsError, StrategyError, SurroundingsError, TrainingError
from kzoo.method import Group, Method
from kzoo.plugins import registry, targets
from kzoo.random import fold_in
from kzoo.schedules import Linear
from kzoo.testing import fakes


class MeanOptions(kzoo.Options):
    scale: float = Field(1.0, gt=0, description="factor of the target")


class Mean(Method):
    """Predict scale times the mean of the image."""

    options: MeanOptions

    @staticmethod
    def pretext(batch, seed, options):
        image = tf.cast(batch["image"], tf.float32) / 255.0
        return {"image": image, "target": options.scale * tf.reduce_mean(image, axis=(1, 2, 3))}

    def build_heads(self):
        self.head = keras.layers.Dense(1)
        self.head.build((None, self.width))

    def forward(self, batch, training):
        return {"mean": self.head(self.embed(batch["image"], training))[:, 0]}

    def loss(self, outputs, batch):
        return tf.reduce_mean(tf.square(outputs["mean"] - batch["target"]))


def backbone(size=4, channels=1, width=3):
    image = keras.Input((size, size, channels))
    embedding = keras.layers.Dense(width, name="embedding")(keras.layers.Flatten()(image))
    return keras.Model(image, {"embedding": embedding})


def images(count=32, seed=0):
    return fakes.images(count, 4, 1, seed)


def method(kind=Mean, **options):
    keras.utils.set_random_seed(0)
    return kind(backbone(), name="mean", **options)


def batch_of(model, count=8):
    return fakes.batch_of(model, images(count))


def test_everything_is_built_before_compile():
    assert len(method().variables) == 4


def test_one_that_is_built_directly_is_refused_under_channels_first(monkeypatch):
    body = backbone()
    monkeypatch.setattr(keras.config, "image_data_format", lambda: "channels_first")
    with pytest.raises(SurroundingsError, match="Keras is set to channels_first; kzoo's models need"):
        Mean(body)


def test_call_is_the_embedding_of_bytes_and_of_floats_alike():
    model, x = method(), images()
    np.testing.assert_allclose(model(x), model(x.astype("float32") / 255.0), atol=1e-6)
    np.testing.assert_array_equal(model(x), model.backbone(x.astype("float32") / 255.0)["embedding"])
    assert model.predict(x, verbose=0).shape == (32, 3)


def test_a_step_is_plain_gradient_descent():
    model = method()
    model.compile(keras.optimizers.SGD(0.1))
    batch = batch_of(model)
    with tf.GradientTape() as tape:
        loss = model.loss(model.forward(batch, True), batch)
    gradients = tape.gradient(loss, model.trainable_variables)
    expected = [np.array(v) - 0.1 * np.array(g) for v, g in zip(model.trainable_variables, gradients, strict=True)]
    logs = model.train_step(batch)
    assert float(logs["loss"]) == pytest.approx(float(loss))
    for variable, value in zip(model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(variable, value, atol=1e-6)


def test_accumulated_parts_are_one_update():
    """The loss is a mean over examples that do not see each other, so four parts give the gradient of the whole."""
    whole, parts = method(), method()
    whole.compile(keras.optimizers.SGD(0.1))
    parts.compile(keras.optimizers.SGD(0.1), accumulate=4)
    one, other = whole.train_step(batch_of(whole)), parts.train_step(batch_of(parts))
    assert float(one["loss"]) == pytest.approx(float(other["loss"]), rel=1e-5)
    assert int(parts.optimizer.iterations) == 1
    for a, b in zip(whole.variables, parts.variables, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize(("argument", "per_tensor"), [("clip_norm", False), ("clip_tensor_norm", True)])
def test_clipping_bounds_the_update(argument, per_tensor):
    model = method(scale=1000.0)
    model.compile(keras.optimizers.SGD(1.0), **{argument: 0.5})
    before = [np.array(v) for v in model.trainable_variables]
    model.train_step(batch_of(model))
    norms = [np.linalg.norm(np.array(v) - b) for v, b in zip(model.trainable_variables, before, strict=True)]
    if per_tensor:
        np.testing.assert_allclose(norms, [0.5] * len(norms), rtol=1e-4)
    else:
        assert np.linalg.norm(norms) == pytest.approx(0.5, rel=1e-4)


def test_history_holds_the_mean_over_the_steps():
    seen = []
    model = method()
    model.compile(keras.optimizers.SGD(0.01))
    record = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(logs["loss"]))
    history = model.fit(images(), batch_size=8, epochs=2, verbose=0, callbacks=[record])
    assert len(seen) == 8
    np.testing.assert_allclose(history.history["loss"], [np.mean(seen[:4]), np.mean(seen[4:])], rtol=1e-6)


def test_the_same_seed_repeats_a_training_exactly_and_another_does_not():
    def losses(seed):
        model = method()
        model.compile(keras.optimizers.SGD(0.1))
        return model.fit(images(), batch_size=8, epochs=3, seed=seed, verbose=0).history["loss"]

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)


def test_a_loss_that_is_not_a_number_stops_the_training_and_says_where():
    model = method(scale=1e30)
    model.compile(keras.optimizers.SGD(1e30))
    with pytest.raises(TrainingError, match=r"mean: the loss is (nan|inf) at step \d+, learning rate 1e\+30"):
        model.fit(images(), batch_size=8, epochs=3, verbose=0)


def test_saved_and_loaded_it_answers_the_same(tmp_path):
    model = method(scale=2.0)
    model.compile("adam")
    model.fit(images(), batch_size=8, verbose=0)
    model.save(tmp_path / "mean.keras")
    loaded = keras.saving.load_model(tmp_path / "mean.keras")
    assert loaded.options == MeanOptions(scale=2.0)
    np.testing.assert_array_equal(loaded(images()), model(images()))
    np.testing.assert_array_equal(
        loaded.forward(batch_of(loaded), False)["mean"], model.forward(batch_of(model), False)["mean"]
    )


def test_options_are_checked():
    with pytest.raises(OptionsError, match=r"mean: scale: Input should be greater than 0"):
        method(scale=-1.0)
    with pytest.raises(OptionsError, match=r"mean: size: Extra inputs are not permitted"):
        method(size=3)


def test_a_batch_that_does_not_divide_is_refused():
    model = method()
    model.compile("adam", accumulate=3)
    with pytest.raises(StrategyError, match=r"train.batch_size: 8 does not divide over 1 replicas x 3"):
        model.stream(array_source("x", images()), batch_size=8, seed=0)


def test_half_precision_reaches_the_loss_as_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = method()
    finally:
        keras.config.set_dtype_policy("float32")
    seen = {}
    model.loss = lambda outputs, batch: seen.update(outputs) or tf.reduce_mean(outputs["mean"])
    model.compile("adam")
    model.train_step(batch_of(model))
    assert seen["mean"].dtype == tf.float32
    assert {v.dtype for v in model.variables} == {"float32"}


class Faint(Mean):
    """Its gradient of the outputs is about 1e-8, which is 0 in float16."""

    def loss(self, outputs, batch):
        return 1e-7 * super().loss(outputs, batch)


def test_float16_scales_the_loss_so_that_faint_gradients_arrive():
    moved = {}
    for policy in ("float32", "mixed_float16"):
        keras.config.set_dtype_policy(policy)
        try:
            model = method(Faint)
        finally:
            keras.config.set_dtype_policy("float32")
        model.compile(keras.optimizers.SGD(1e6))
        before = [np.array(v) for v in model.trainable_variables]
        model.train_step(batch_of(model))
        moved[policy] = [np.array(v) - b for v, b in zip(model.trainable_variables, before, strict=True)]
    for exact, half in zip(*moved.values(), strict=True):
        assert np.abs(exact).max() > 1e-3
        np.testing.assert_allclose(half, exact, atol=0.02 * np.abs(exact).max())


def test_float16_still_learns():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = method()
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile(keras.optimizers.SGD(0.05), clip_norm=10.0)
    losses = model.fit(images(), batch_size=8, epochs=10, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]


class Keyed(Mean):
    """Hands on the keys that its pretext draws from."""

    @staticmethod
    def pretext(batch, seed, options):
        return {**Mean.pretext(batch, seed, options), "drawn": seed}


def test_pretext_and_step_draw_from_keys_of_their_own():
    """Each from a stream of the example's key, so that what one draws says nothing of what the other does."""
    batch, keys = batch_of(method(Keyed)), tf.range(8, dtype=tf.int64)
    np.testing.assert_array_equal(batch["drawn"], fold_in(keys, "pretext"))
    np.testing.assert_array_equal(batch["seed"], fold_in(keys, "step"))
    assert len({*batch["drawn"].numpy(), *batch["seed"].numpy(), *keys.numpy()}) == 24


class Two(Mean):
    """Two optimizers: the head learns ten times as fast as the backbone."""

    def optimizer_groups(self):
        return {
            "head": Group(self.head.trainable_variables, lr_scale=10.0),
            "backbone": Group(self.backbone.trainable_variables),
        }

    def train_step(self, batch):
        logs = self.minimise(batch, groups="head")
        return {**logs, "backbone_loss": self.minimise(batch, groups="backbone")["loss"]}


def test_each_group_of_variables_has_an_optimizer_of_its_own():
    keras.utils.set_random_seed(0)
    model = Two(backbone())
    schedule = optimizers.WarmUp(peak=0.01, warmup=0, steps=10, shape="constant")
    model.compile(optimizers.SGD(schedule, momentum=0.9))
    assert [float(model.optimizers[name].learning_rate) for name in ("head", "backbone")] == pytest.approx([0.1, 0.01])
    assert model.optimizer is model.optimizers["head"]
    batch = batch_of(model)

    def gradients(variables):
        with tf.GradientTape() as tape:
            loss = model.loss(model.forward(batch, training=True), batch)
        return tape.gradient(loss, variables)

    head, body = model.head.trainable_variables, model.backbone.trainable_variables
    expected_head = [v.numpy() - 0.1 * g.numpy() for v, g in zip(head, gradients(head), strict=True)]
    before = [v.numpy() for v in body]
    logs = model.train_step(batch)
    for variable, expected in zip(head, expected_head, strict=True):
        np.testing.assert_allclose(variable.numpy(), expected, atol=1e-6)
    assert max(np.abs(v.numpy() - b).max() for v, b in zip(body, before, strict=True)) > 0
    assert float(logs["backbone_loss"]) < float(logs["loss"])  # the head had moved by then


class Joint(Mean):
    """One gradient for two groups: the head learns at a tenth of the rate, the backbone from epoch 1 on."""

    def optimizer_groups(self):
        return {
            "head": Group(self.head.trainable_variables, lr_scale=0.1),
            "backbone": Group(self.backbone.trainable_variables, frozen_until_epoch=1),
        }


@pytest.mark.parametrize("optimizer", [keras.optimizers.SGD(0.1), optimizers.Adam(0.1, l2=0.01)])
def test_one_gradient_moves_several_groups_each_at_its_own_rate_and_time(optimizer):
    model = method(Joint)
    model.compile(optimizer, steps_per_epoch=2)
    batch = batch_of(model)
    head, body = model.head.trainable_variables, model.backbone.trainable_variables
    began = [np.array(variable) for variable in (*head, *body)]
    with tf.GradientTape() as tape:
        loss = model.loss(model.forward(batch, training=True), batch)
    gradients = tape.gradient(loss, head)
    model.train_step(batch)
    if type(optimizer) is keras.optimizers.SGD:
        for variable, before, gradient in zip(head, began, gradients, strict=False):
            np.testing.assert_allclose(variable, before - 0.01 * gradient.numpy(), atol=1e-6)
    for _ in range(2):  # the second step of epoch 0, and the first of epoch 1
        for variable, before in zip(body, began[2:], strict=True):
            np.testing.assert_array_equal(variable, before)
        model.train_step(batch)
    moved = [np.abs(np.array(v) - b).max() for v, b in zip(body, began[2:], strict=True)]
    assert min(moved) > 0


def test_a_group_may_keep_its_rate_while_that_of_the_others_changes():
    class Steady(Mean):
        def optimizer_groups(self):
            head = Group(self.head.trainable_variables, constant_rate=True)
            return {"body": Group(self.backbone.trainable_variables), "head": head}

    model = method(Steady)
    model.compile(optimizers.SGD(optimizers.WarmUp(peak=0.2, warmup=2, steps=10)))
    found = []
    for step in (0, 2, 6, 10):
        for optimizer in model.optimizers.values():
            optimizer.iterations.assign(step)
        found.append([float(model.optimizers[name].learning_rate) for name in ("body", "head")])
    np.testing.assert_allclose(found, [[0.1, 0.2], [0.2, 0.2], [0.1, 0.2], [0.0, 0.2]], atol=1e-6)


def test_a_group_may_have_a_weight_decay_of_its_own():
    """Gradient 0, rate 0.1, decay 0.5 for the head and none for the backbone: 1 becomes 0.95, and 1 stays."""

    class Decaying(Mean):
        def optimizer_groups(self):
            return {
                "head": Group(self.head.trainable_variables),
                "backbone": Group(self.backbone.trainable_variables, weight_decay=0.0),
            }

        def loss(self, outputs, batch):
            return 0.0 * tf.reduce_sum(outputs["mean"])

    model = method(Decaying)
    for variable in model.trainable_variables:
        variable.assign(tf.ones(variable.shape))
    model.compile(optimizers.SGD(0.1, l2=0.5))
    model.train_step(batch_of(model))
    np.testing.assert_allclose(model.head.kernel, 0.95, rtol=1e-6)
    np.testing.assert_array_equal(model.backbone.layers[-1].kernel, 1.0)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_minimise_gives_back_the_outputs_of_the_whole_batch(accumulate):
    model = method()
    model.compile(keras.optimizers.SGD(0.0), accumulate=accumulate)
    batch = batch_of(model)
    logs = model.minimise(batch)
    np.testing.assert_allclose(logs.outputs["mean"], model.forward(batch, training=True)["mean"], rtol=1e-6)
    assert set(logs) == {"loss"}


def test_time_is_counted_in_epochs_and_schedules_follow_it():
    model = method()
    model.compile(keras.optimizers.SGD(0.01), total_steps=8, steps_per_epoch=4)
    batch, seen = batch_of(model), []
    for _ in range(6):
        falls, rises = Linear(start=1.0, end=0.0), Linear(start=0.0, end=1.0, epochs=1.0)
        seen.append([float(model.epoch()), float(model.value(falls)), float(model.value(rises)), float(model.value(3))])
        model.train_step(batch)
    steps = np.arange(6)
    expected = np.stack([steps / 4, 1 - steps / 8, np.minimum(1, steps / 4), np.full(6, 3)], axis=1)
    np.testing.assert_allclose(seen, expected, atol=1e-6)


def test_progress_goes_from_nothing_to_all():
    model = method()
    model.compile("sgd")
    assert float(model.progress()) == 0
    model.compile("sgd", total_steps=4)
    batch, seen = batch_of(model), []
    for _ in range(6):
        seen.append(float(model.progress()))
        model.train_step(batch)
    assert seen == [0, 0.25, 0.5, 0.75, 1, 1]


class Watched(Mean):
    """Keeps where the training stood at each step."""

    def train_step(self, batch):
        begins = self.progress()
        return {**super().train_step(batch), "progress": begins}


def test_each_training_has_its_own_progress():
    """A second `fit` begins at 0 again, however long the first was; both end one step before 1."""
    model, seen = method(Watched), []
    model.compile("sgd")
    record = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(float(logs["progress"])))
    for epochs in (1, 2, 2):
        model.fit(images(), batch_size=8, epochs=epochs, verbose=0, callbacks=[record])
    np.testing.assert_allclose(seen, [*np.arange(4) / 4, *np.arange(8) / 8, *np.arange(8) / 8], atol=1e-6)


def test_a_training_in_parts_that_compile_knows_whole_goes_on():
    model, seen = method(Watched), []
    model.compile("sgd", total_steps=8)
    record = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(float(logs["progress"])))
    for _ in range(2):
        model.fit(images(), batch_size=8, verbose=0, callbacks=[record])
    np.testing.assert_allclose(seen, np.arange(8) / 8, atol=1e-6)


@pytest.mark.parametrize("wrong", [images().astype("float32") / 255, tf.data.Dataset.range(3), None])
def test_fit_says_what_it_takes(wrong):
    model = method()
    model.compile("sgd")
    with pytest.raises(DataError, match=r"^mean: (images must be uint8|fit takes uint8 images)"):
        model.fit(wrong, batch_size=8)


def test_epochs_begin_once_each():
    model, begun = method(), []
    model.begin_epoch = begun.append
    model.compile("sgd")
    model.fit(images(), batch_size=8, epochs=3, verbose=0)
    assert begun == [0, 1, 2]


def test_a_memory_of_each_example_needs_their_number():
    with pytest.raises(OptionsError, match=r"^mean: remembers every example; tell their number on building it"):
        method().require_examples()
    model = Mean(backbone(), data=kzoo.DataFacts(examples=7))
    assert model.require_examples() == Mean.from_config(model.get_config()).require_examples() == 7


class WithoutKernel(Mean):
    """Adds a logarithm of a determinant, for which XLA has no kernel."""

    def loss(self, outputs, batch):
        return super().loss(outputs, batch) + tf.linalg.slogdet(tf.eye(2) + tf.square(outputs["mean"][0]))[1]


class SaysSo(WithoutKernel):
    xla = False


class TestXLA:
    @pytest.fixture(autouse=True)
    def accelerator(self, monkeypatch):
        """`auto` believes in a GPU; XLA compiles for the CPU."""
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["one"])

    def trained(self, kind, **settings):
        model = method(kind)
        model.compile(keras.optimizers.SGD(0.1), **settings)
        model.fit(images(16), batch_size=8, verbose=0)
        return model

    def test_auto_goes_on_without_where_it_cannot_compile_the_step_and_says_so_once(self, recwarn):
        expected = self.trained(WithoutKernel, jit_compile=False)
        assert not [warning for warning in recwarn if "XLA" in str(warning.message)]
        model = self.trained(WithoutKernel)
        [warning] = [str(warning.message) for warning in recwarn if "XLA" in str(warning.message)]
        assert warning == (
            "mean: XLA cannot compile its step: it has no kernel for LogMatrixDeterminant; "
            "training goes on without, which is slower"
        )
        assert not model.jit_compile
        for one, other in zip(model.weights, expected.weights, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_auto_compiles_what_can_be(self):
        model, expected = self.trained(Mean), self.trained(Mean, jit_compile=False)
        assert model.jit_compile
        for one, other in zip(model.weights, expected.weights, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)

    def test_auto_means_off_for_a_method_that_says_it_cannot_be(self, recwarn):
        assert not self.trained(SaysSo).jit_compile
        assert not [warning for warning in recwarn if "XLA" in str(warning.message)]

    def test_what_is_asked_for_and_impossible_is_one_line_before_the_first_step(self):
        message = r"^mean: XLA cannot .* no kernel for LogMatrixDeterminant; set train.jit_compile to auto or false$"
        with pytest.raises(TrainingError, match=message):
            self.trained(WithoutKernel, jit_compile=True)


class Compares(Mean):
    least_examples = 2


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "received"), [(1, 1, "1"), (4, 4, "4 in 4 parts"), (2, 1, ""), (4, 2, ""), (4, 1, "")]
)
def test_a_batch_that_leaves_nothing_to_compare_is_refused_by_name(batch_size, accumulate, received):
    model = method(Compares)
    model.compile(keras.optimizers.SGD(0.1), accumulate=accumulate)
    message = f"^train.batch_size: 'mean' learns nothing from fewer than 2 examples at once; received {received}$"
    with pytest.raises(StrategyError, match=message) if received else nullcontext():
        model.stream(array_source("x", images()), batch_size=batch_size, seed=0)


def test_no_bundled_method_hides_what_the_bridge_to_keras_needs():
    """But `test_step`, which is the author's to override."""
    bridge = {name for kind in Bridge.__mro__ if kind.__module__.startswith("kzoo.base") for name in vars(kind)}
    needed = {name for name in bridge - set(vars(Method)) if not name.startswith("__")} - {"test_step"}
    for spec in registry.methods():
        kinds = [kind for kind in targets.resolve(spec).__mro__ if issubclass(kind, Method) and kind is not Method]
        assert not needed & {name for kind in kinds for name in vars(kind)}, spec.name
