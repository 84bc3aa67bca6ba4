"""Whether an embedding has collapsed: its spread and its effective rank, asked without labels."""

import numpy as np

# Of an isotropic embedding's spread. Half of it, as asked of projections, would condemn every pooled ReLU embedding:
# all positive, their shared direction dominates, and untrained ones have a spread of about 0.1.
COLLAPSED_SPREAD = 0.03
COLLAPSED_RANK = 0.1  # of the width, asked of embeddings up to RANK_WIDTH wide
RANK_WIDTH = 256


def embedding_std(features: np.ndarray) -> float:
    """Spread of the unit-norm embeddings: mean over dimensions of their standard deviation, times sqrt(d).

    1 is isotropic, 0 constant. The collapse measure of SimSiam (Chen and He 2021, arXiv:2011.10566, section 4.1).
    """
    unit = unit_norm(np.asarray(features, np.float64))
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


def unit_norm(features: np.ndarray) -> np.ndarray:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
