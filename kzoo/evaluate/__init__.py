"""How good the embedding is: the same questions to the trained and to the untrained backbone.

Nearest neighbours (Wu et al. 2018, section 3.4), a linear probe, and the same probe with few labels ask whether classes
can be read off the frozen features. Spread and effective rank ask, without labels, whether the embedding has collapsed.
The untrained backbone is the baseline, not chance: random convolutions already separate classes well above it.

Every probe learns from the train split alone. The test split is only ever predicted.
"""

from typing import TYPE_CHECKING

from kzoo.system.lazy import names_of

if TYPE_CHECKING:
    from kzoo.evaluate.collapse import collapsed, effective_rank, embedding_std
    from kzoo.evaluate.features import UNLABELLED, Features, embed, embed_all
    from kzoo.evaluate.probes import choose_regularisation, knn, linear_probe, low_shot
    from kzoo.evaluate.tables import pretext_table, table
    from kzoo.evaluate.verdict import EvaluationSettings, chance_accuracy, compare, evaluate

__all__ = [
    "UNLABELLED",
    "EvaluationSettings",
    "Features",
    "chance_accuracy",
    "choose_regularisation",
    "collapsed",
    "compare",
    "effective_rank",
    "embed",
    "embed_all",
    "embedding_std",
    "evaluate",
    "knn",
    "linear_probe",
    "low_shot",
    "pretext_table",
    "table",
]

__getattr__ = names_of(
    __name__,
    {
        "kzoo.evaluate.collapse": ["collapsed", "effective_rank", "embedding_std"],
        "kzoo.evaluate.verdict": ["EvaluationSettings", "chance_accuracy", "compare", "evaluate"],
        "kzoo.evaluate.features": ["UNLABELLED", "Features", "embed", "embed_all"],
        "kzoo.evaluate.probes": ["choose_regularisation", "knn", "linear_probe", "low_shot"],
        "kzoo.evaluate.tables": ["pretext_table", "table"],
    },
)
