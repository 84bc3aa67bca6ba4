"""WordPiece (Wu et al. 2016, arXiv:1609.08144), as BERT cuts words, trained with the library `tokenizers`.

A vocabulary begins with kzoo's special tokens, then come T5's sentinels, then the characters, then pieces of words.
"""

from collections import Counter
from collections.abc import Iterable

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from kzoo.text import SPECIAL, UNK
from kzoo_text.options import SENTINELS

RESERVED = (*SPECIAL, *SENTINELS)
_ALPHABET = 4  # the characters may take this part of the vocabulary, at most: a quarter


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """A lower-case WordPiece tokenizer of at most so many tokens; the same texts give the same, in any order.

    Characters beyond the most frequent become [UNK]. It adds no special tokens to what it encodes.
    """
    empty = _tokenizer({})
    words: Counter[str] = Counter()
    for text in texts:
        normal = empty.normalizer.normalize_str(text)
        words.update(word for word, _ in empty.pre_tokenizer.pre_tokenize_str(normal))
    characters: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            characters[character] += count
    by_frequency = sorted(characters, key=lambda character: (-characters[character], character))
    alphabet = sorted(by_frequency[: (vocabulary - len(RESERVED)) // _ALPHABET])
    # The library numbers the continuations of words in the order of a hash table, which no two processes share, and
    # merges follow the numbers. Where all characters have their place before, nothing is left to chance.
    places = [*RESERVED, *alphabet, *(f"##{character}" for character in alphabet)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary, min_frequency=2, special_tokens=places, show_progress=False
    )
    known = set(alphabet)
    learner = _tokenizer({})
    learner.train_from_iterator(
        (" ".join([word] * count) for word, count in sorted(words.items()) if known.issuperset(word)), trainer
    )
    return _tokenizer(learner.get_vocab())


def pieces(tokenizer: Tokenizer) -> tuple[str, ...]:
    """What each token number stands for."""
    numbers = tokenizer.get_vocab()
    return tuple(sorted(numbers, key=numbers.__getitem__))


def _tokenizer(numbers: dict[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(numbers, unk_token=SPECIAL[UNK]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer
