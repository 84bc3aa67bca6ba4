"""The probes against values known beforehand, and against the mistakes that make probes lie."""

import io
import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from kzoo import evaluate as ev
from kzoo.errors import DataError, EvaluationError
from kzoo.evaluate import EvaluationSettings, Features, probes


def split(features, labels, first_id=0):
    features, labels = np.asarray(features, np.float32), np.asarray(labels, np.int64)
    return Features(features, labels, np.arange(first_id, first_id + len(labels)))


def one_hot(n, classes=5, seed=0, first_id=0):
    labels = np.random.default_rng(seed).integers(0, classes, n)
    return split(np.eye(classes)[labels], labels, first_id)


def blobs(n, classes=4, width=16, noise=1.0, seed=0, first_id=0):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, width))
    labels = rng.integers(0, classes, n)
    return split(centres[labels] + noise * rng.normal(size=(n, width)), labels, first_id)


def shuffled(examples, seed=0):
    return Features(examples.features, np.random.default_rng(seed).permutation(examples.labels), examples.ids)


# ---- embedding -------------------------------------------------------------------------------------------------------


def make_backbone():
    keras.utils.set_random_seed(1)
    image = keras.Input((6, 4, 1))
    x = keras.layers.BatchNormalization(momentum=0.5)(image)
    x = keras.layers.Dropout(0.5)(keras.layers.Conv2D(3, 1)(x))
    tokens = keras.layers.Reshape((24, 3))(x)
    pooled = keras.layers.GlobalMaxPooling2D()(x)
    return keras.Model(image, {"embedding": pooled, "map": x, "tokens": tokens})


def batches(images, labels, size):
    rows = {"image": images, "label": labels, "id": np.arange(len(images)) + 100}
    return tf.data.Dataset.from_tensor_slices(rows).batch(size)


@pytest.fixture
def images():
    return np.random.default_rng(0).random((7, 6, 4, 1), np.float32)


def test_embed_is_inference_in_the_order_of_the_batches(images):
    backbone = make_backbone()
    before = [np.array(weight) for weight in backbone.weights]
    found = ev.embed(backbone, batches(images, np.arange(7) % 3, 3))
    np.testing.assert_allclose(found.features, backbone(images, training=False)["embedding"], atol=1e-6)
    assert found.features.dtype == np.float32
    assert found.ids.tolist() == list(range(100, 107))
    assert found.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    for weight, old in zip(backbone.weights, before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_embed_refuses_pixels_of_0_to_255_that_are_floats(images):
    with pytest.raises(DataError, match="floats up to 25"):
        ev.embed(make_backbone(), batches(images * 255, np.zeros(7, int), 7))


def test_embed_does_not_depend_on_the_batch_size(images):
    one, all_ = (ev.embed(make_backbone(), batches(images, np.zeros(7, int), size)) for size in (1, 7))
    np.testing.assert_allclose(one.features, all_.features, atol=1e-6)


@pytest.mark.parametrize("feature", ["map", "tokens"])
def test_maps_and_tokens_are_averaged(images, feature):
    backbone = make_backbone()
    found = ev.embed(backbone, batches(images, np.zeros(7, int), 4), feature=feature).features
    pixels = np.asarray(backbone(images, training=False)["map"])
    np.testing.assert_allclose(found, pixels.mean((1, 2)), atol=1e-6)


def test_embed_shows_its_progress_where_asked(images):
    console = Console(width=80, file=io.StringIO(), force_terminal=True)
    ev.embed(make_backbone(), batches(images, np.zeros(7, int), 4), console=console)
    assert "embedding" in console.file.getvalue()


def test_embed_without_labels_calls_them_unlabelled(images):
    rows = [{"image": images, "id": np.arange(7)}]
    assert ev.embed(make_backbone(), rows).labels.tolist() == [-1] * 7


def test_embed_refuses_what_it_would_embed_wrongly(images):
    backbone = make_backbone()
    with pytest.raises(EvaluationError, match="no examples"):
        ev.embed(backbone, [])
    with pytest.raises(EvaluationError, match="no output 'map_2'; it has embedding, map, tokens"):
        ev.embed(backbone, batches(images, np.zeros(7, int), 4), feature="map_2")
    with pytest.raises(EvaluationError, match="uint8"):
        ev.embed(backbone, batches((images * 255).astype(np.uint8), np.zeros(7, int), 4))
    images[2] = np.nan
    with pytest.raises(EvaluationError, match="1 of 7 embeddings"):
        ev.embed(backbone, batches(images, np.zeros(7, int), 4))


# ---- nearest neighbours ----------------------------------------------------------------------------------------------


def obvious_knn(train, test, k, temperature, exclude_self):
    correct = 0
    for query, label, identity in zip(test.features, test.labels, test.ids, strict=True):
        scored = []
        for other, other_label, other_id in zip(train.features, train.labels, train.ids, strict=True):
            if not (exclude_self and other_id == identity):
                cosine = query @ other / (np.linalg.norm(query) * np.linalg.norm(other))
                scored.append((float(cosine), int(other_label)))
        votes = {}
        for cosine, other_label in sorted(scored, reverse=True)[:k]:
            votes[other_label] = votes.get(other_label, 0.0) + math.exp(cosine / temperature)
        correct += max(votes, key=votes.get) == label
    return correct / len(test)


@pytest.mark.parametrize("k", [1, 4, 20, 1000])
@pytest.mark.parametrize("exclude_self", [False, True])
def test_knn_is_the_obvious_loop(k, exclude_self, monkeypatch):
    monkeypatch.setattr(probes, "_BLOCK", 90 * 7)  # seven queries at a time, so that blocks are exercised as well
    train, test = blobs(90, noise=2.0, seed=1), blobs(60, noise=2.0, seed=2, first_id=40)  # some ids are in both
    wanted = obvious_knn(train, test, k, 0.2, exclude_self)
    assert 0.3 < wanted < 0.99  # neither trivial nor hopeless, or the comparison says little
    assert ev.knn(train, test, k, 0.2, exclude_self=exclude_self) == pytest.approx(wanted, abs=1e-12)


def test_one_neighbour_of_the_train_split_itself_is_itself():
    train = shuffled(blobs(200))
    assert ev.knn(train, train, k=1) == 1.0
    apart = ev.knn(train, train, k=1, exclude_self=True)
    assert abs(apart - 0.25) < 3 * math.sqrt(0.25 * 0.75 / 200)


def test_the_vote_is_weighted_by_similarity():
    train = split([[1, 0], [0.6, 0.8], [0.6, 0.8]], [0, 1, 1])
    query = split([[1, 0]], [0])
    # exp(1/T) against 2 exp(.6/T): the near one wins while .4/T > log 2, that is T < 0.577
    assert ev.knn(train, query, k=3, temperature=0.5) == 1.0
    assert ev.knn(train, query, k=3, temperature=0.65) == 0.0


def test_a_cold_temperature_does_not_overflow():
    assert ev.knn(one_hot(50), one_hot(20, seed=1), temperature=1e-4) == 1.0


def test_knn_ignores_length_and_unlabelled_examples():
    train, test = blobs(80, noise=1.5), blobs(40, noise=1.5, seed=5)
    plain = ev.knn(train, test)
    scaled = Features(train.features * np.linspace(0.1, 9, 80)[:, None].astype(np.float32), train.labels, train.ids)
    assert ev.knn(scaled, test) == pytest.approx(plain, abs=1 / 40)
    decoys = Features(test.features, np.full(40, -1), test.ids)  # exact twins, but of no class
    both = Features(*(np.concatenate(pair) for pair in zip(vars(train).values(), vars(decoys).values(), strict=True)))
    assert ev.knn(both, test) == plain


def test_a_class_the_train_split_lacks_is_wrong():
    assert ev.knn(split([[1, 0]], [0]), split([[1, 0], [0, 1]], [0, 7])) == 0.5


# ---- linear probes ---------------------------------------------------------------------------------------------------


def test_one_hot_features_are_read_perfectly():
    train, test = one_hot(200), one_hot(100, seed=1, first_id=200)
    assert ev.knn(train, test) == 1.0
    found = ev.linear_probe(train, test)
    assert (found["train_accuracy"], found["test_accuracy"], found["converged"]) == (1.0, 1.0, True)
    assert ev.low_shot(train, test, labels_per_class=2)["test_accuracy"] == 1.0


def test_shuffled_labels_are_read_at_chance():
    train, test = shuffled(one_hot(1000)), shuffled(one_hot(1000, seed=1), seed=1)
    bound = 3 * math.sqrt(0.2 * 0.8 / 1000)
    assert abs(ev.knn(train, test) - 0.2) < bound
    assert abs(ev.linear_probe(train, test)["test_accuracy"] - 0.2) < bound
    assert abs(ev.low_shot(train, test, repeats=1)["test_accuracy"] - 0.2) < bound


def test_the_regularisation_is_chosen_without_the_test_split():
    # More features than examples: the choice matters. If test labels had a say, these would choose differently.
    train, test = blobs(60, width=80, noise=5.0), blobs(400, width=80, noise=5.0, seed=3)
    chosen = ev.linear_probe(train, test)["regularisation"]
    for wrong in (shuffled(test), Features(-test.features, test.labels, test.ids), test.take(np.arange(5))):
        assert ev.linear_probe(train, wrong)["regularisation"] == chosen

    # Negative control: chosen on the test labels, it does depend on them.
    def best_on(examples):
        scores = [probes._fit(train, c)[0].score(examples.features, examples.labels) for c in probes._REGULARISATIONS]
        return probes._REGULARISATIONS[int(np.argmax(scores))]

    assert best_on(test) != best_on(Features(-test.features, test.labels, test.ids))


def test_the_choice_follows_the_validation_part():
    # Pure noise in 40 dimensions: the stronger the regularisation, the lower the log loss, and accuracy is chance.
    assert ev.choose_regularisation(blobs(300, noise=0.3)) > ev.choose_regularisation(shuffled(blobs(300, width=40)))


def test_standardisation_comes_from_the_train_split():
    train, test = blobs(200), blobs(100, seed=4)
    bent = [Features(part.features * 1e4 + 7e4, part.labels, part.ids) for part in (train, test)]
    assert ev.linear_probe(*bent)["test_accuracy"] == pytest.approx(
        ev.linear_probe(train, test)["test_accuracy"], abs=0.02
    )
    moved = Features(test.features + 100, test.labels, test.ids)  # only the test split: it must not be re-centred
    assert ev.linear_probe(train, moved)["test_accuracy"] < 0.6


def test_a_probe_that_did_not_converge_says_so(monkeypatch):
    monkeypatch.setattr(probes, "_ITERATIONS", 1)
    assert ev.linear_probe(blobs(100), blobs(50, seed=1))["converged"] is False


def test_the_held_out_part_is_a_fifth_of_each_class():
    labels = np.repeat([0, 1, 2, 3], [50, 10, 2, 1])
    part = probes.stratified_part(labels, np.random.default_rng(0))
    assert np.bincount(labels[part], minlength=4).tolist() == [10, 2, 1, 0]


def test_classes_with_one_example_can_still_be_probed():
    train = split(np.eye(3), [0, 1, 2])
    assert ev.linear_probe(train, train)["test_accuracy"] == 1.0


def test_low_shot_uses_only_so_many_labels(monkeypatch):
    seen = []
    monkeypatch.setattr(
        probes, "linear_probe", lambda train, *_: seen.append(train) or {"test_accuracy": len(seen) / 10}
    )
    train = split(np.zeros((34, 2)), np.repeat([0, 1, 2], [20, 10, 4]))
    found = ev.low_shot(train, train, labels_per_class=5, repeats=3)
    assert [np.bincount(part.labels).tolist() for part in seen] == [[5, 5, 4]] * 3
    assert len({tuple(sorted(part.ids)) for part in seen}) == 3  # a new draw each time
    assert found["test_accuracy"] == pytest.approx(0.2)
    assert found["standard_deviation"] == pytest.approx(math.sqrt(2 / 300))


def test_probes_repeat():
    train, test = blobs(60, noise=3.0), blobs(40, noise=3.0, seed=1)
    assert ev.evaluate(train, test) == ev.evaluate(train, test)


@pytest.mark.parametrize("probe", [ev.knn, ev.linear_probe, ev.low_shot])
def test_probes_refuse_unlabelled_data(probe):
    labelled, unlabelled = one_hot(20), split(np.eye(4), [-1] * 4)
    with pytest.raises(EvaluationError, match="train split has no labels"):
        probe(unlabelled, labelled)
    with pytest.raises(EvaluationError, match="test split has no labels"):
        probe(labelled, unlabelled)


def test_a_linear_probe_needs_two_classes():
    with pytest.raises(EvaluationError, match="one class"):
        ev.linear_probe(split(np.eye(4), [0] * 4), split(np.eye(4), [0] * 4))


# ---- collapse --------------------------------------------------------------------------------------------------------


def isotropic(n=4000, width=32):
    return np.random.default_rng(0).normal(size=(n, width))


def test_spread_is_one_for_isotropic_and_zero_for_constant():
    assert ev.embedding_std(isotropic()) == pytest.approx(1.0, abs=0.01)
    assert ev.embedding_std(np.ones((50, 32), np.float32)) == pytest.approx(0.0, abs=1e-6)


def test_effective_rank_counts_directions():
    identity = np.concatenate([np.eye(24), -np.eye(24)])
    assert ev.effective_rank(identity + 5.0) == pytest.approx(24)  # centring removes the offset
    assert ev.effective_rank(np.outer(np.arange(40.0), np.linspace(1, 2, 24))) == pytest.approx(1, abs=1e-4)
    assert ev.effective_rank(np.eye(9)[:, :9]) == pytest.approx(8)  # nine points span eight directions
    assert ev.effective_rank(np.full((40, 24), 0.1, np.float32)) == 0.0
    # Singular values 3 and 1: entropy of (3/4, 1/4)
    two = np.array([[3.0, 0], [-3, 0], [0, 1], [0, -1]])
    assert ev.effective_rank(two) == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))
    assert ev.effective_rank(np.pad(two, ((0, 0), (0, 30)))) == pytest.approx(ev.effective_rank(two))  # wide as tall


def test_collapse_is_noticed_and_only_then():
    assert not ev.collapsed(isotropic())
    assert ev.collapsed(isotropic() * 0.02 + 1)  # nearly constant
    few = np.random.default_rng(0).normal(size=(4000, 3)) @ np.random.default_rng(1).normal(size=(3, 64))
    assert ev.embedding_std(few) > 0.5  # the spread alone would miss it
    assert ev.collapsed(few)


# ---- the report ------------------------------------------------------------------------------------------------------


def test_the_report_is_complete_and_json():
    train = Features(
        *(
            np.concatenate(p)
            for p in zip(vars(blobs(100)).values(), vars(split(np.ones((9, 16)), [-1] * 9)).values(), strict=True)
        )
    )
    report = ev.evaluate(train, blobs(60, seed=1), EvaluationSettings(knn_k=5, low_shot_labels=3))
    assert json.loads(json.dumps(report)) == report
    assert (report["train_examples"], report["labelled_train_examples"], report["test_examples"]) == (109, 100, 60)
    assert report["classes"] == 4
    assert report["knn"]["k"] == 5
    assert report["low_shot"]["labels_per_class"] == 3
    assert report["embedding"]["width"] == 16


@pytest.mark.parametrize(
    ("train", "test", "accuracy", "way"),
    [
        ([1] * 6 + [0] * 4, [1] * 8 + [0] * 2, 0.8, "always the most frequent class"),
        ([1] * 6 + [0] * 4, [0] * 7 + [1] * 3, 0.5, "any class at random"),  # the train split's favourite: 0.3
        ([0, 0, 1, 2, 3, 4, 5, 5, 4, 3], [1, 2, 3, 4, 5] * 2, 1 / 6, "any class at random"),
    ],
)
def test_chance_is_the_better_of_the_prior_and_a_guess(train, test, accuracy, way):
    report = ev.evaluate(
        split(np.eye(10), train), split(np.eye(10), test, first_id=10), EvaluationSettings(linear=False)
    )
    assert report["chance"] == {"accuracy": pytest.approx(accuracy), "way": way}


def test_probes_that_are_off_are_absent():
    report = ev.evaluate(one_hot(50), one_hot(20), EvaluationSettings(linear=False))
    assert "knn" in report
    assert not {"linear_probe", "low_shot"} & set(report)
    report = ev.evaluate(one_hot(50), one_hot(20), EvaluationSettings(low_shot_labels=0))
    assert "linear_probe" in report
    assert "low_shot" not in report


def test_no_neighbours_no_vote():
    assert "knn" not in ev.evaluate(one_hot(50), one_hot(20), EvaluationSettings(knn_k=0, linear=False))


def test_without_a_test_split_no_probe_is_asked_what_it_learned():
    # Random labels: whoever sees its own example among the neighbours answers all of them, whoever does not, chance.
    examples = shuffled(blobs(1000))
    assert ev.knn(examples, examples, k=1) == 1.0
    report = ev.evaluate(examples, examples, EvaluationSettings(knn_k=1, low_shot_labels=0))
    assert report["train_examples"] + report["test_examples"] == 1000
    assert 198 <= report["test_examples"] <= 202  # a fifth of each of four classes
    bound = 3 * math.sqrt(0.25 * 0.75 / 200)
    assert abs(report["knn"]["test_accuracy"] - 0.25) < bound
    assert abs(report["linear_probe"]["test_accuracy"] - 0.25) < bound


def test_without_labels_only_the_shape_is_measured():
    unlabelled = split(isotropic(100), [-1] * 100)
    report = ev.evaluate(unlabelled, unlabelled)
    assert set(report) == {"train_examples", "test_examples", "embedding", "no_probes"}
    assert "No probes: no example of the train split has a label. Only the shape" in printed(ev.compare(report, report))


@pytest.mark.parametrize(
    ("train", "test", "reason"),
    [
        (list(range(20)), None, "no class has two labelled examples, of which one could be held out"),
        ([3] * 20, None, "all labels of the train split are of one class"),
        ([-1] * 18 + [0, 1], [-1] * 5, "no example of the test split has a label"),
        ([-1] * 20, [0, 1], "no example of the train split has a label"),
        ([-1] * 19 + [0], None, "all labels of the train split are of one class"),
    ],
)
def test_what_cannot_be_probed_says_why_and_every_number_is_one(train, test, reason):
    known = split(isotropic(20), train)
    report = ev.evaluate(known, known if test is None else split(isotropic(len(test)), test, first_id=20))
    assert report["no_probes"] == reason
    json.dumps(report, allow_nan=False)
    assert report["test_examples"] > 0
    assert reason in printed(ev.compare(report, report))


def test_one_test_example_is_no_collapse():
    report = ev.evaluate(one_hot(50), one_hot(1, first_id=50), EvaluationSettings(low_shot_labels=0))
    json.dumps(report, allow_nan=False)
    assert report["embedding"]["collapsed"] is False


def report(knn, examples=1000, collapsed=False):
    return {
        "train_examples": 5000, "test_examples": examples,
        "labelled_train_examples": 5000, "labelled_test_examples": examples,
        "classes": 10, "chance": {"accuracy": 0.1, "way": "any class at random"},
        "embedding": {"width": 64, "spread": 0.9, "effective_rank": 30.0, "collapsed": collapsed},
        "knn": {"test_accuracy": knn, "k": 20, "temperature": 0.07},
    }  # fmt: skip


def printed(compared, width=120):
    console = Console(width=width, file=io.StringIO())
    console.print(ev.table(compared))
    return " ".join(console.file.getvalue().split())


@pytest.mark.parametrize(
    ("trained", "untrained", "says"),
    [
        (0.80, 0.40, "better than untrained"),
        (0.30, 0.40, "worse than untrained"),
        (0.41, 0.40, "better than untrained, within noise"),
        (0.39, 0.40, "worse than untrained, within noise"),
        (0.40, 0.40, "equal to untrained"),
    ],
)
def test_the_verdict_is_plain(trained, untrained, says):
    compared = ev.compare(report(trained), report(untrained))
    assert compared["verdict"]["knn"]["says"] == says
    assert compared["verdict"]["knn"]["difference"] == pytest.approx(trained - untrained)
    text = printed(compared)
    short = says.replace(" than untrained", "").replace(" to untrained", "")
    assert f"{trained:.1%} {untrained:.1%} {100 * (trained - untrained):+.1f} {short}" in text
    assert "Chance: 10.0% (any class at random, of 10)" in text


def test_more_test_examples_turn_noise_into_a_verdict():
    # Two standard errors of .42 - .40 are 2 sqrt((.2436 + .24) / n): .044 at n = 1,000 and .0044 at n = 100,000.
    assert ev.compare(report(0.42), report(0.40))["verdict"]["knn"]["says"].endswith("within noise")
    assert ev.compare(report(0.42, 10**5), report(0.40, 10**5))["verdict"]["knn"]["says"] == "better than untrained"


def test_the_table_says_when_the_embedding_collapsed():
    assert "collapsed yes no collapsed" in printed(ev.compare(report(0.5, collapsed=True), report(0.4)))
    assert "collapsed no no Chance" in printed(ev.compare(report(0.5), report(0.4)))


def test_comparing_is_json():
    compared = ev.compare(ev.evaluate(blobs(60), blobs(30)), ev.evaluate(blobs(60, seed=5), blobs(30)))
    assert json.loads(json.dumps(compared)) == compared
    assert list(compared["verdict"]) == ["knn", "linear_probe", "low_shot"]
