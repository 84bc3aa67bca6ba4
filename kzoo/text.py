"""What sources, methods and pictures of text share: the special tokens, and tokens as words again."""

from collections.abc import Sequence

import numpy as np

# the first entries of every vocabulary, so that a token's number says what it is
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD = SPECIAL.index("[PAD]")


def words(tokens: np.ndarray, vocabulary: Sequence[str]) -> str:
    """One row of token numbers `[T]` as text: WordPiece's continuations ("##ing") are joined, padding is left out."""
    pieces: list[str] = []
    for number in tokens:
        piece = vocabulary[number]
        if number == PAD:
            continue
        if piece.startswith("##") and pieces:
            pieces[-1] += piece[2:]
        else:
            pieces.append(piece)
    return " ".join(pieces)
