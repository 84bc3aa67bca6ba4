"""Text: int32 tokens `[T]`, padded; a backbone takes `[B, T]`, in which 0 is padding."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from kzoo.data.source import Batch, Source
from kzoo.evaluate import figures
from kzoo.export.tokens import serve_tokens
from kzoo.modality import CheckExamples, Modality, Served, Shown, Signature
from kzoo.specs import DataFacts
from kzoo.text import SPECIAL, words, wrapped


class Text(Modality):
    key = "tokens"

    def element(self, source: Source) -> dict[str, tuple[tuple[int, ...], str]]:
        return {"tokens": ((source.length,), "int32")}

    def describe(self, source: Source) -> str:
        return f"passages of {source.length} tokens, vocabulary of {len(source.vocabulary):,}"

    def input_shape(self, source: Source, sides: tuple[int, int] | None) -> tuple[int, ...]:
        return source.length, len(source.vocabulary)

    def ready(self, batch: Batch, size: int | None, key: str) -> Batch:
        return batch

    def blank(self, facts: DataFacts, input_shape: tuple[int | None, ...], size: int) -> dict[str, np.ndarray]:
        tokens = np.zeros((2, input_shape[0] or 1), "int32")
        return {"tokens": tokens, "vocabulary_size": np.full(2, len(SPECIAL) + 1, "int32")}

    def show(self, path: Path, shown: Shown) -> None:
        columns = {name: value for name, value in (shown.raw | shown.ready).items() if name.endswith("tokens")}
        vocabulary = shown.source.vocabulary
        written = {name: [wrapped(words(row, vocabulary)) for row in value.numpy()] for name, value in columns.items()}
        figures.answers(path, written, heading="What the pretext shows the model")

    def serve(
        self,
        backbone: keras.Model,
        *,
        size: tuple[int, ...] | None,
        vocabulary: Sequence[str],
        bits: int,
        further: Mapping[str, Signature],
    ) -> Served:
        return serve_tokens(backbone, vocabulary, further)

    def examples(self) -> CheckExamples:
        from kzoo.testing.examples import PASSAGES  # the suite is not there when a model is served

        return PASSAGES


TEXT = Text()
