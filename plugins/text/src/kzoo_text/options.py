"""Options of datasets, backbones and methods of text. Light: pydantic only."""

from typing import Literal

from pydantic import Field

from kzoo.options import Count, Depth, Layout, Options

# What stands for a span that was taken out; every vocabulary here has them right after kzoo's special tokens.
SENTINELS = tuple(f"<extra_id_{number}>" for number in range(32))


class PassageOptions(Options):
    """How text becomes passages; options of the dataset `python_docs`."""

    length: int = Field(
        64, ge=8, le=8192, description="tokens of a passage, with [CLS] and [SEP]; shorter ones are padded"
    )
    vocabulary: Count = Field(
        4096, ge=256, description="most tokens of the WordPiece vocabulary, which is learned from the train split"
    )


class TextFileOptions(PassageOptions):
    """Options of every dataset named `text:<path>`."""

    test_fraction: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="share of each file, its end, held out as split test; unused where the folder has its own splits",
    )
    layout: Layout = "auto"


class BertOptions(Options):
    """Options of the BERT encoders."""

    dropout: float = Field(0.1, ge=0, lt=1, description="share left out of embeddings, attention and hidden layers")
    layers: Depth | None = Field(None, ge=1, description="transformer layers; none: as many as the name says")
    pooling: Literal["mean", "cls"] = Field(
        "mean", description="embedding: mean over the tokens that are not padding; cls: that of the first token"
    )


class MaskedLanguageModelOptions(Options):
    share: float = Field(0.15, gt=0, lt=1, description="share of a passage's tokens that are asked for")
    max_predictions: Count = Field(20, description="most tokens that are asked for in a passage")
    next_sentence: bool = Field(
        False,
        description="also tell whether the second half of what is shown follows the first, or is of another document",
    )


class SpanCorruptionOptions(Options):
    share: float = Field(0.15, gt=0, lt=1, description="share of a passage's tokens that are taken out")
    span: float = Field(3.0, ge=1, description="mean tokens of a span that is taken out")
    layers: Depth = Field(2, ge=1, description="transformer layers of the decoder")
    dropout: float = Field(0.1, ge=0, lt=1, description="share left out in the decoder")


class SimCSEOptions(Options):
    temperature: float = Field(0.05, gt=0, description="softmax temperature of the cosines")
