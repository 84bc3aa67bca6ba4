"""What sources, methods and pictures of text share: the special tokens, and tokens as words again."""

import textwrap
from collections.abc import Sequence

import numpy as np

# the first entries of every vocabulary, so that a token's number says what it is
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, UNK, CLS, SEP, MASK = range(len(SPECIAL))

_WIDTH, _LINES = 52, 8  # of a caption, in letters


def words(tokens: np.ndarray, vocabulary: Sequence[str]) -> str:
    """One row of token numbers `[T]` as text; padding is left out."""
    return joined([vocabulary[number] for number in tokens if number != PAD])


def joined(pieces: Sequence[str]) -> str:
    """Pieces of words as text: WordPiece's continuations ("##ing") are joined to what they continue."""
    parts: list[str] = []
    for piece in pieces:
        if piece.startswith("##") and parts:
            parts[-1] += piece[2:]
        else:
            parts.append(piece)
    return " ".join(parts)


def wrapped(text: str) -> str:
    """A text in lines that fit a picture, as many as fit."""
    return "\n".join(textwrap.wrap(text, _WIDTH, max_lines=_LINES, placeholder=" ..."))
