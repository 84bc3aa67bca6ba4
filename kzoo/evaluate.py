"""How good the embedding is: the same questions to the trained and to the untrained backbone.

Nearest neighbours (Wu et al. 2018, section 3.4), a linear probe, and the same probe with few labels ask whether classes
can be read off the frozen features. Spread and effective rank ask, without labels, whether the embedding has collapsed.
The untrained backbone is the baseline, not chance: random convolutions already separate classes well above it.

Every probe learns from the train split alone. The test split is only ever predicted.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # scikit-learn's own

from kzoo.errors import EvaluationError
from kzoo.resize import check_range

UNLABELLED = -1
# Of an isotropic embedding's spread. Half of it, as asked of projections, would condemn every pooled ReLU embedding:
# all positive, their shared direction dominates, and untrained ones have a spread of about 0.1.
COLLAPSED_SPREAD = 0.03
COLLAPSED_RANK = 0.1  # of the width, asked of embeddings up to RANK_WIDTH wide
RANK_WIDTH = 256

_REGULARISATIONS = (0.0001, 0.001, 0.01, 0.1, 1.0)  # scikit-learn's C, the strongest regularisation first
_ITERATIONS = 300
_VALIDATION = 0.2  # of the train split's labels
_SMALL = 1 << 18  # features that one thread fits sooner than several
_BLOCK = 1 << 24  # similarities held at once: 64 MB


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """What is asked of the features.

    knn_k: neighbours that vote, 0 for no such vote. knn_temperature: of their weights, exp(cosine / temperature).
    linear: whether to fit linear probes at all. low_shot_labels: labels per class of the low-shot probe, 0 for none.
    low_shot_repeats: draws of those labels. seed: of the draws and of the validation part.
    """

    knn_k: int = 20
    knn_temperature: float = 0.07
    linear: bool = True
    low_shot_labels: int = 10
    low_shot_repeats: int = 3
    seed: int = 0


@dataclass(frozen=True)
class Features:
    """Frozen features of n examples: `features` float32 [n,d], `labels` int64 [n] (-1: unlabelled), `ids` int64 [n]."""

    features: np.ndarray
    labels: np.ndarray
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.features)

    def take(self, which: np.ndarray) -> "Features":
        """The examples that a mask or an array of positions names."""
        return Features(self.features[which], self.labels[which], self.ids[which])

    @property
    def labelled(self) -> "Features":
        """The examples whose class is known."""
        return self.take(self.labels != UNLABELLED)


def embed(
    backbone: keras.Model,
    batches: Iterable[Mapping[str, Any]],
    feature: str = "embedding",
    console: Console | None = None,
) -> Features:
    """One of `embed_all`."""
    return embed_all(backbone, batches, (feature,), console)[feature]


def embed_all(
    backbone: keras.Model,
    batches: Iterable[Mapping[str, Any]],
    wanted: Sequence[str],
    console: Console | None = None,
) -> dict[str, Features]:
    """Features of every example, in the order of the batches, with the backbone in inference mode, all in one pass.

    Args:
        backbone: maps float images in [0, 1] to a dict of outputs. Its weights and moving statistics stay as they are.
        batches: dicts with `image` float [b,h,w,c] in [0, 1], or `tokens` int [b,T]; `id` [b] and, where known,
            `label` [b].
        wanted: the outputs to read. Feature maps [b,h,w,C] and tokens [b,T,D] are averaged to one vector.
        console: where to show the progress; None shows none.

    Raises:
        EvaluationError: no examples, images that are not float, an unknown output, or features that are not numbers.
        DataError: images of 0 to 255.
    """

    for name in wanted:
        if name not in backbone.output:
            raise EvaluationError(f"evaluate: the backbone has no output {name!r}; it has {', '.join(backbone.output)}")

    kind = tf.as_dtype(backbone.input.dtype)

    # one trace, for the last batch too
    @tf.function(input_signature=[tf.TensorSpec(backbone.input_shape, kind)], autograph=False)
    def infer(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = backbone(inputs, training=False)
        values = {name: tf.cast(outputs[name], tf.float32) for name in wanted}
        return {name: tf.reduce_mean(value, list(range(1, value.shape.rank - 1))) for name, value in values.items()}

    features: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
    labels, ids = [], []
    for batch in track(batches, "embedding", console=console, transient=True, disable=console is None):
        inputs = tf.convert_to_tensor(batch["image"] if "image" in batch else batch["tokens"])
        if kind.is_floating and not inputs.dtype.is_floating:
            raise EvaluationError(
                f"evaluate: images must be float in [0, 1]; scale them. Received: {inputs.dtype.name}"
            )
        check_range(inputs)
        for name, value in infer(tf.cast(inputs, kind)).items():
            features[name].append(value.numpy())
        ids.append(np.asarray(batch["id"], np.int64))
        labels.append(np.asarray(batch.get("label", np.full(len(ids[-1]), UNLABELLED)), np.int64))
    if not ids:
        raise EvaluationError("evaluate: the split holds no examples; name another split or relax its filter")
    rows = np.concatenate(labels), np.concatenate(ids)
    found = {name: Features(np.concatenate(values), *rows) for name, values in features.items()}
    for each in found.values():
        if broken := int(np.sum(~np.isfinite(each.features).all(axis=1))):
            raise EvaluationError(
                f"evaluate: {broken} of {len(each)} embeddings are not numbers; the weights are damaged"
            )
    return found


def knn(
    train: Features, test: Features, k: int = 20, temperature: float = 0.07, *, exclude_self: bool = False
) -> float:
    """Accuracy of the weighted nearest-neighbour vote of Wu et al. 2018 (arXiv:1805.01978, section 3.4).

    The k most similar train examples by cosine vote with exp(cosine / temperature); the class with the highest sum
    wins, of equal sums the lower class. k above the number of train examples means all of them. With `exclude_self`,
    train examples of the same id as the test example do not vote (for asking the train split about itself).

    Raises:
        EvaluationError: a split has no labels.
    """
    train, test = _labelled(train, "train"), _labelled(test, "test")
    classes, targets = np.unique(train.labels, return_inverse=True)
    bank, queries = _unit(train.features), _unit(test.features)
    k = min(k, len(train))
    rows = max(1, _BLOCK // len(train))
    correct = 0
    for start in range(0, len(test), rows):
        block = slice(start, start + rows)
        similarity = queries[block] @ bank.T
        if exclude_self:
            similarity[test.ids[block, None] == train.ids] = -np.inf
        nearest, indices = (value.numpy() for value in tf.math.top_k(similarity, k))  # equal ones: the lower index
        votes = np.zeros((len(nearest), len(classes)))
        weights = np.exp((nearest.astype(np.float64) - 1) / temperature)  # minus 1: the same vote, and no overflow
        np.add.at(votes, (np.arange(len(nearest))[:, None], targets[indices]), weights)
        correct += int(np.sum(classes[votes.argmax(axis=1)] == test.labels[block]))
    return correct / len(test)


def linear_probe(train: Features, test: Features, seed: int = 0) -> dict[str, Any]:
    """Logistic regression on standardised features; what is linearly readable from a frozen backbone.

    The regularisation is chosen on a fifth of the train split, stratified, that the candidates are not fitted on; the
    probe is then fitted on the whole train split and the test split predicted once. Standardised by the train split.

    Returns:
        `train_accuracy`, `test_accuracy`, `regularisation` (scikit-learn's C) and `converged`.

    Raises:
        EvaluationError: a split has no labels, or the train split only one class.
    """
    train, test = _labelled(train, "train"), _labelled(test, "test")
    regularisation = choose_regularisation(train, seed)
    probe, converged = _fit(train, regularisation)
    return {
        "train_accuracy": float(probe.score(train.features, train.labels)),
        "test_accuracy": float(probe.score(test.features, test.labels)),
        "regularisation": regularisation,
        "converged": converged,
    }


def choose_regularisation(train: Features, seed: int = 0) -> float:
    """The C whose probe, fitted on four fifths of the train split, predicts the last fifth best.

    Best is the highest accuracy, then the lowest log loss. A class with one example is fitted on and not validated.
    """
    train = _labelled(train, "train")
    held_out = _stratified_part(train.labels, np.random.default_rng(seed))
    if not held_out.any():
        return 0.1
    fitted, validation = train.take(~held_out), train.take(held_out)

    def quality(regularisation: float) -> tuple[float, float]:
        probe, _ = _fit(fitted, regularisation)
        loss = log_loss(validation.labels, probe.predict_proba(validation.features), labels=probe.classes_)
        return float(probe.score(validation.features, validation.labels)), -float(loss)

    return max(_REGULARISATIONS, key=quality)


def low_shot(
    train: Features, test: Features, labels_per_class: int = 10, repeats: int = 3, seed: int = 0
) -> dict[str, Any]:
    """The linear probe with few labels: `labels_per_class` train examples of each class, drawn anew for each repeat.

    A class that has fewer gives all it has. Returns `labels_per_class`, `repeats`, `test_accuracy` (the mean) and
    `standard_deviation` (over the repeats).
    """
    train = _labelled(train, "train")
    accuracies = []
    for repeat in range(repeats):
        rng = np.random.default_rng([seed, repeat])
        rows = [np.flatnonzero(train.labels == label) for label in np.unique(train.labels)]
        drawn = np.concatenate([rng.permutation(row)[:labels_per_class] for row in rows])
        accuracies.append(linear_probe(train.take(drawn), test, seed)["test_accuracy"])
    return {
        "labels_per_class": labels_per_class,
        "repeats": repeats,
        "test_accuracy": float(np.mean(accuracies)),
        "standard_deviation": float(np.std(accuracies)),
    }


def embedding_std(features: np.ndarray) -> float:
    """Spread of the unit-norm embeddings: mean over dimensions of their standard deviation, times sqrt(d).

    1 is isotropic, 0 constant. The collapse measure of SimSiam (Chen and He 2021, arXiv:2011.10566, section 4.1).
    """
    unit = _unit(np.asarray(features, np.float64))
    return float(unit.std(axis=0).mean() * np.sqrt(unit.shape[1]))


def effective_rank(features: np.ndarray) -> float:
    """exp(entropy of the singular values of the centred features [n,d], normalised to sum 1) (Roy and Vetterli 2007).

    From 1 (one direction varies) to min(n - 1, d) (all vary alike); 0 where nothing varies.
    """
    features = np.asarray(features, np.float64)
    centred = features - features.mean(axis=0)
    small = centred @ centred.T if len(centred) < centred.shape[1] else centred.T @ centred
    energies = np.linalg.eigvalsh(small)
    energies = energies[energies > 1e-14 * np.sum(features**2)]  # the rest is rounding
    singular = np.sqrt(energies)
    share = singular / max(singular.sum(), 1e-300)
    return float(np.exp(-np.sum(share * np.log(share)))) if len(share) else 0.0


def collapsed(features: np.ndarray) -> bool:
    """Whether the embedding is nearly constant, or, when at most `RANK_WIDTH` wide, varies in few directions only.

    Nearly constant: a spread under `COLLAPSED_SPREAD`. Few: an effective rank of at most `COLLAPSED_RANK` of the rank
    that n examples of width d can have. One example says nothing.
    """
    examples, width = features.shape
    if examples < 2:
        return False
    attainable = min(width, examples - 1)
    thin = width <= RANK_WIDTH and effective_rank(features) <= COLLAPSED_RANK * attainable
    return bool(embedding_std(features) < COLLAPSED_SPREAD or thin)


def evaluate(train: Features, test: Features, settings: EvaluationSettings | None = None) -> dict[str, Any]:
    """Every figure, under names in plain words, ready for JSON.

    Always `train_examples`, `test_examples`, and `embedding` (`width`, `spread`, `effective_rank`, `collapsed`), which
    is measured on the test split. Where probes are possible also `classes`, `chance` (see `chance_accuracy`), `knn`,
    `linear_probe` and `low_shot`, each with `test_accuracy`; else `no_probes`, the reason.

    Where there is no test split, pass the same features twice: a stratified fifth is then held out from the probes. If
    that is none, because no class has two examples, the embedding is measured on all.
    """
    settings = settings or EvaluationSettings()
    if test is train:
        held_out = _stratified_part(train.labels, np.random.default_rng(settings.seed))
        if held_out.any():
            train, test = train.take(~held_out), train.take(held_out)
    report: dict[str, Any] = {
        "train_examples": len(train),
        "test_examples": len(test),
        "embedding": {
            "width": test.features.shape[1],
            "spread": embedding_std(test.features),
            "effective_rank": effective_rank(test.features),
            "collapsed": collapsed(test.features),
        },
    }
    same = test is train
    train, test = train.labelled, test.labelled
    if reason := _no_probes(train, test, same):
        return {**report, "no_probes": reason}
    classes = np.unique(train.labels)
    report["labelled_train_examples"], report["labelled_test_examples"] = len(train), len(test)
    report["classes"] = len(classes)
    report["chance"] = chance_accuracy(train, test)
    if settings.knn_k:
        report["knn"] = {
            "test_accuracy": knn(train, test, settings.knn_k, settings.knn_temperature),
            "k": settings.knn_k,
            "temperature": settings.knn_temperature,
        }
    if settings.linear:
        report["linear_probe"] = linear_probe(train, test, settings.seed)
        if settings.low_shot_labels:
            report["low_shot"] = low_shot(
                train, test, settings.low_shot_labels, settings.low_shot_repeats, settings.seed
            )
    return report


def chance_accuracy(train: Features, test: Features) -> dict[str, Any]:
    """What is right without looking: the better of two ways, as `accuracy`, and which, as `way`.

    The train split's most frequent class, asked on the test split; or any class, each as likely.
    """
    classes, counts = np.unique(train.labels, return_counts=True)
    prior = float(np.mean(test.labels == classes[counts.argmax()]))
    uniform = 1.0 / len(classes)
    way = "always the most frequent class" if prior > uniform else "any class at random"
    return {"accuracy": max(prior, uniform), "way": way}


def _no_probes(train: Features, test: Features, same: bool) -> str:
    """Why no probe can be asked, "" where one can. same: whether both are one split, of which none was held out."""
    if not len(train):
        return "no example of the train split has a label"
    if len(np.unique(train.labels)) < 2:
        return "all labels of the train split are of one class"
    if same:
        return "no class has two labelled examples, of which one could be held out"
    return "" if len(test) else "no example of the test split has a label"


def compare(trained: Mapping[str, Any], untrained: Mapping[str, Any]) -> dict[str, Any]:
    """The two reports of `evaluate` side by side, with a `verdict` on each probe.

    Each verdict has `trained`, `untrained`, `difference` (of test accuracy) and `says`: "better" or "worse than
    untrained", with ", within noise" where the difference is under two standard errors (of two accuracies on that many
    test examples, and of the low-shot draws), or "equal to untrained".
    """
    verdict = {}
    for probe in ("knn", "linear_probe", "low_shot"):
        if probe in trained and probe in untrained:
            new, old = (report[probe]["test_accuracy"] for report in (trained, untrained))
            noise = abs(new - old) < 2 * np.hypot(_standard_error(trained, probe), _standard_error(untrained, probe))
            says = "equal to" if new == old else "better than" if new > old else "worse than"
            verdict[probe] = {
                "trained": new,
                "untrained": old,
                "difference": new - old,
                "says": f"{says} untrained" + (", within noise" if noise and new != old else ""),
            }
    return {"trained": dict(trained), "untrained": dict(untrained), "verdict": verdict}


def pretext_table(figures: Mapping[str, Mapping[str, Any]]) -> Table:
    """The pretext's own figures for the terminal: "held_out" beside "chance", then "own", then what "failed".

    None is a figure that is not a finite number, as JSON keeps it.
    """
    shown = Table(title="The pretext task", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("on held-out examples", no_wrap=True)
    shown.add_column("trained", justify="right")
    shown.add_column("chance", justify="right")
    for name, value in {**figures["held_out"], **figures["own"]}.items():
        chance = figures["chance"].get(name)
        written = "no number" if value is None else f"{value:.4g}"
        shown.add_row(name.replace("_", " "), written, "" if chance is None else f"{chance:.4g}")
    for what in figures.get("failed", {}):
        shown.add_row(what, "failed", "")
    return shown


def table(report: Mapping[str, Any], title: str | None = None) -> Table:
    """What `compare` found, for the terminal."""
    title = title or "Trained beside untrained"
    trained, untrained, verdict = report["trained"], report["untrained"], report["verdict"]
    shown = Table(title=title, title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("on the test split", no_wrap=True)  # the last column gives way in a narrow terminal
    for heading in ("trained", "untrained", "change"):
        shown.add_column(heading, justify="right")
    shown.add_column("trained is")
    labels = {
        "knn": lambda part: f"kNN, k={part['k']}",
        "linear_probe": lambda part: "linear probe",
        "low_shot": lambda part: f"linear, {part['labels_per_class']} labels/class",
    }
    for probe, found in verdict.items():
        colour = {"better": "green", "worse": "red"}.get(found["says"].split()[0], "default")
        shown.add_row(
            labels[probe](trained[probe]),
            f"{found['trained']:.1%}",
            f"{found['untrained']:.1%}",
            f"{100 * found['difference']:+.1f}",
            f"[{colour}]{found['says']}[/]",
        )
    new, old = trained["embedding"], untrained["embedding"]
    for label, key in (("spread, 0 to 1", "spread"), ("effective rank", "effective_rank")):
        width = f" of {new['width']}" if key == "effective_rank" else ""
        shown.add_row(label + width, f"{new[key]:.2f}", f"{old[key]:.2f}", f"{new[key] - old[key]:+.2f}", "")
    words = {True: "yes", False: "no"}
    alarm = "[red]collapsed[/]" if new["collapsed"] else ""
    shown.add_row("collapsed", words[new["collapsed"]], words[old["collapsed"]], "", alarm)
    if verdict:
        shown.caption = (
            f"Chance: {trained['chance']['accuracy']:.1%} ({trained['chance']['way']}, of {trained['classes']}). "
            f"Probes learn from {trained['labelled_train_examples']:,} train examples, "
            f"are asked {trained['labelled_test_examples']:,} test examples."
        )
    else:
        reason = trained.get("no_probes", "the recipe asks for none")
        shown.caption = f"No probes: {reason}. Only the shape of the embedding was measured."
    return shown


def _standard_error(report: Mapping[str, Any], probe: str) -> float:
    """Of a probe's test accuracy: from the finite test split, and from the draws where labels were drawn."""
    found = report[probe]
    accuracy = found["test_accuracy"]
    variance = accuracy * (1 - accuracy) / report["labelled_test_examples"]
    return float(np.sqrt(variance + found.get("standard_deviation", 0.0) ** 2 / found.get("repeats", 1)))


def _labelled(split: Features, name: str) -> Features:
    labelled = split.labelled
    if not len(labelled):
        raise EvaluationError(f"evaluate: the {name} split has no labels; a probe needs some, name a labelled dataset")
    return labelled


def _unit(features: np.ndarray) -> np.ndarray:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def _stratified_part(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask with a fifth of each class, at least one of each that has two."""
    part = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        part[rows[: min(len(rows) - 1, max(1, round(_VALIDATION * len(rows))))]] = True
    return part


def _fit(train: Features, regularisation: float) -> tuple[Pipeline, bool]:
    """The probe, and whether its optimiser converged."""
    if len(np.unique(train.labels)) < 2:
        raise EvaluationError("evaluate: all train examples are of one class; a probe needs two, name another dataset")
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=regularisation, max_iter=_ITERATIONS))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # few numbers wait longer for threads than they compute, many times so on a busy machine
        with threadpool_limits(1 if train.features.size < _SMALL else None):
            probe.fit(train.features, train.labels)
    return probe, not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
