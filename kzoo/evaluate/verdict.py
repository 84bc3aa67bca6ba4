"""How good the embedding is: the same questions to the trained and to the untrained backbone.

Nearest neighbours (Wu et al. 2018, section 3.4), a linear probe, and the same probe with few labels ask whether classes
can be read off the frozen features. Spread and effective rank ask, without labels, whether the embedding has collapsed.
The untrained backbone is the baseline, not chance: random convolutions already separate classes well above it.

Every probe learns from the train split alone. The test split is only ever predicted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kzoo.evaluate.collapse import collapsed, effective_rank, embedding_std
from kzoo.evaluate.features import Features
from kzoo.evaluate.probes import knn, linear_probe, low_shot, stratified_part


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
        held_out = stratified_part(train.labels, np.random.default_rng(settings.seed))
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
            noise = within_noise(trained, untrained, probe)
            says = "equal to" if new == old else "better than" if new > old else "worse than"
            verdict[probe] = {
                "trained": new,
                "untrained": old,
                "difference": new - old,
                "says": f"{says} untrained" + (", within noise" if noise and new != old else ""),
            }
    return {"trained": dict(trained), "untrained": dict(untrained), "verdict": verdict}


def within_noise(one: Mapping[str, Any], other: Mapping[str, Any], probe: str) -> bool:
    """Whether the test accuracies of two reports of `evaluate` differ by under two standard errors, or not at all."""
    difference = abs(one[probe]["test_accuracy"] - other[probe]["test_accuracy"])
    return bool(
        difference == 0 or difference < 2 * np.hypot(_standard_error(one, probe), _standard_error(other, probe))
    )


def _standard_error(report: Mapping[str, Any], probe: str) -> float:
    """Of a probe's test accuracy: from the finite test split, and from the draws where labels were drawn."""
    found = report[probe]
    accuracy = found["test_accuracy"]
    variance = accuracy * (1 - accuracy) / report["labelled_test_examples"]
    return float(np.sqrt(variance + found.get("standard_deviation", 0.0) ** 2 / found.get("repeats", 1)))
