"""From documents to passages of tokens: cut, numbered and kept in the cache, together with the tokenizer."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from kzoo.data import Source, cache_dir, prepare_once, text_source
from kzoo.errors import DataError, NoSplit
from kzoo.text import CLS, PAD, SEP
from kzoo_text.options import PassageOptions
from kzoo_text.tokenizer import RESERVED, pieces, train_tokenizer

_FORMAT = 1  # of the cache; raised when what is written, or how it is made, changes
_SHORTEST = 4  # what is left at the end of a document is a passage where it fills this part of one, a quarter


@dataclass(frozen=True)
class Document:
    """A text whose passages follow each other. label: index of a class, -1 = unlabelled."""

    text: str
    label: int = -1


def beginning_and_end(text: str, share: float) -> tuple[str, str]:
    """A text cut in two at the first space after a share of its characters."""
    position = round(len(text) * share)
    space = re.compile(r"\s").search(text, position)
    cut = space.start() if space else position
    return text[:cut], text[cut:]


def corpus_source(
    name: str,
    splits: Mapping[str, Sequence[Document]],
    classes: Sequence[str],
    split: str,
    options: PassageOptions,
) -> Source:
    """A split of some documents as passages, [CLS] ... [SEP], which do not overlap; its vocabulary is that of "train".

    Beside "tokens" each example has, of the same length, "next", the passage that follows in its document, all padding
    where there is none; and "other", one of another document, drawn once (of the same, where that is the only one).
    "first_word", int32, is the number of the first entry of the vocabulary that can stand in a text.

    Made once: passages and `tokenizer.json` are kept in kzoo's cache, under a hash of the documents and the options.
    Raises DataError: no such split, or too little text in it for one passage.
    """
    if "train" not in splits:
        raise NoSplit(f"{name}: no split 'train', whose words are the vocabulary; it has {', '.join(splits)}")
    if split not in splits:
        raise NoSplit(f"{name}: no split '{split}'; it has {', '.join(splits)}")
    folder = cache_dir() / "text" / _digest(splits, options)
    prepare_once(folder, lambda scratch: _write(scratch, name, splits, options))
    vocabulary = pieces(Tokenizer.from_file(str(folder / "tokenizer.json")))
    with np.load(folder / f"{split}.npz") as file:
        tokens, following, other, labels = (file[key] for key in ("tokens", "next", "other", "labels"))
    if not len(tokens):
        raise _too_little(name, split, options)
    padded = np.concatenate([tokens, np.full_like(tokens[:1], PAD)])  # -1 is no passage
    first_word = np.full(len(tokens), len(RESERVED), np.int32)
    more = {"next": padded[following], "other": padded[other], "first_word": first_word}
    return text_source(name, tokens, vocabulary, labels, classes, more)


def passages(numbers: Sequence[int], words: Sequence[int], length: int) -> np.ndarray:
    """The passages of one document, int32 `[n, length]`.

    They are cut between words; a rest shorter than a quarter of a passage is left out.
    numbers: the document's tokens. words: which word each is of.
    """
    room = length - 2
    rows, start = [], 0
    while _SHORTEST * (len(numbers) - start) >= room:
        end = min(start + room, len(numbers))
        while end < len(numbers) and end > start and words[end] == words[end - 1]:
            end -= 1
        end = end if end > start else start + room  # one word fills it all
        row = np.full(length, PAD, np.int32)
        row[: end - start + 2] = [CLS, *numbers[start:end], SEP]
        rows.append(row)
        start = end
    return np.stack(rows) if rows else np.zeros((0, length), np.int32)


def _write(folder: Path, name: str, splits: Mapping[str, Sequence[Document]], options: PassageOptions) -> Path:
    tokenizer = train_tokenizer((document.text for document in splits["train"]), options.vocabulary)
    kept = folder / "kept"
    kept.mkdir()
    for split, documents in splits.items():
        encoded = tokenizer.encode_batch([document.text for document in documents])
        parts = [passages(one.ids, one.word_ids, options.length) for one in encoded]
        counts = [len(part) for part in parts]
        if split == "train" and not sum(counts):
            raise _too_little(name, split, options)
        owner = np.repeat(np.arange(len(documents)), counts)
        np.savez(
            kept / f"{split}.npz",
            tokens=np.concatenate([passages([], [], options.length), *parts]),
            next=_following(owner),
            other=_of_another(owner),
            labels=np.array([document.label for document in documents], np.int64)[owner],
        )
    tokenizer.save(str(kept / "tokenizer.json"))
    return kept


def _following(owner: np.ndarray) -> np.ndarray:
    """The row of the next passage of the same document, -1 for the last."""
    rows = np.arange(1, len(owner) + 1)
    return np.where(np.append(owner[1:], -1) == owner, rows, -1)


def _of_another(owner: np.ndarray) -> np.ndarray:
    """For each row one of another document, drawn at random; of any, where there is one document."""
    rng = np.random.default_rng(0)
    rows = np.arange(len(owner))
    first, last = np.searchsorted(owner, owner), np.searchsorted(owner, owner, side="right")
    others = len(owner) - (last - first)
    drawn = rng.integers(0, np.maximum(others, 1))
    alone = rng.permutation(len(owner)) if len(owner) else rows
    return np.where(others > 0, drawn + np.where(drawn >= first, last - first, 0), alone)


def _digest(splits: Mapping[str, Sequence[Document]], options: PassageOptions) -> str:
    digest = hashlib.sha256(json.dumps([_FORMAT, options.length, options.vocabulary]).encode())
    for split, documents in splits.items():
        digest.update(json.dumps([split, [astuple(document) for document in documents]]).encode())
    return digest.hexdigest()[:32]


def _too_little(name: str, split: str, options: PassageOptions) -> DataError:
    return DataError(
        f"{name}: split '{split}' has too little text for one passage of {options.length} tokens; "
        "give it more, or lower data.options.length"
    )
