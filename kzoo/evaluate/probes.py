"""How good the embedding is: the same questions to the trained and to the untrained backbone.

Nearest neighbours (Wu et al. 2018, section 3.4), a linear probe, and the same probe with few labels ask whether classes
can be read off the frozen features. Spread and effective rank ask, without labels, whether the embedding has collapsed.
The untrained backbone is the baseline, not chance: random convolutions already separate classes well above it.

Every probe learns from the train split alone. The test split is only ever predicted. scikit-learn is imported when a
probe is fitted: what loads and serves a backbone does without.
"""

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from kzoo.errors import EvaluationError
from kzoo.evaluate.collapse import unit_norm
from kzoo.evaluate.features import Features

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

_REGULARISATIONS = (0.0001, 0.001, 0.01, 0.1, 1.0)  # scikit-learn's C, the strongest regularisation first
_ITERATIONS = 300
_VALIDATION = 0.2  # of the train split's labels
_SMALL = 1 << 18  # features that one thread fits sooner than several
_BLOCK = 1 << 24  # similarities held at once: 64 MB


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
    bank, queries = unit_norm(train.features), unit_norm(test.features)
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
    from sklearn.metrics import log_loss

    held_out = stratified_part(train.labels, np.random.default_rng(seed))
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


def _labelled(split: Features, name: str) -> Features:
    labelled = split.labelled
    if not len(labelled):
        raise EvaluationError(f"evaluate: the {name} split has no labels; a probe needs some, name a labelled dataset")
    return labelled


def stratified_part(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask with a fifth of each class, at least one of each that has two."""
    part = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        part[rows[: min(len(rows) - 1, max(1, round(_VALIDATION * len(rows))))]] = True
    return part


def _fit(train: Features, regularisation: float) -> "tuple[Pipeline, bool]":
    """The probe, and whether its optimiser converged."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits  # scikit-learn's own

    if len(np.unique(train.labels)) < 2:
        raise EvaluationError("evaluate: all train examples are of one class; a probe needs two, name another dataset")
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=regularisation, max_iter=_ITERATIONS))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # few numbers wait longer for threads than they compute, many times so on a busy machine
        with threadpool_limits(1 if train.features.size < _SMALL else None):
            probe.fit(train.features, train.labels)
    return probe, not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
