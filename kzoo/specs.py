"""The light records that plugins yield. Nothing here imports TensorFlow or a method.

A record names its code as `"module:attribute"`; the registry imports it on first use. Fields are only ever added.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kzoo.options import Options

PATCH_ABILITIES = ("token_subset", "masked_tokens")  # see `kzoo.patches`
ABILITIES = (*PATCH_ABILITIES, "dropout")  # what a backbone may be able to do beside its outputs


@dataclass(frozen=True, kw_only=True)
class MethodSpec:
    """A self-supervised method.

    name: how recipes name it, `lower_snake_case`; a backbone taken from another library, `library/name`.
    target: `"module:Class"`, a subclass of `kzoo.Method`.
    options: the Options class, light to import.
    family: how `kzoo list` groups it, e.g. "contrastive".
    modality: of its data, `kzoo list modalities`; datasets of another are refused.
    encodes: modality of its backbone where that is another: "image" for an image encoder that learns from video.
    requires: outputs the backbone must offer, e.g. ("embedding",) or ("map",), and abilities it must have, e.g.
        ("token_subset",).
    offers: outputs that its encoder has beside the backbone's, for a recipe's `evaluate.features`.
    channels: numbers of image channels it can learn from; () means any. Where some options change that, they say so
        (`ImageOptions.image_channels`), and this is for the default ones.
    any_size: it shows the backbone parts of images and downstream uses whole ones: the backbone must take any size.
    least_examples: that a step needs at once; 2 where the loss compares the examples of a batch, or its heads normalise
        over them. A batch that is smaller, in one of its accumulated parts, is refused.
    xla: whether XLA can compile its step; where not, a recipe's `jit_compile: auto` means off.
    check_options: options that make it small enough for the conformance suite (`kzoo check`).
    check_backbone: name of the backbone that suite uses; none: a tiny convnet that offers maps and tokens, or a tiny
        vision transformer where an ability is required.
    check_learning_rate: the largest that the suite trains it with, by plain gradient descent with momentum.
    expected_failures: checks of that suite which it knowingly does not pass, by name, each with the reason:
        {"least_examples": "a batch of one is not what it is for"}. They are shown so; one that passes fails.
    labels: whether it learns from labels: data that has none is refused.
    summary: one line. paper: authors, year, identifier.
    """

    name: str
    target: str
    options: type[Options]
    family: str
    summary: str
    paper: str
    modality: str = "image"
    requires: tuple[str, ...] = ("embedding",)
    channels: tuple[int, ...] = ()
    any_size: bool = False
    check_options: Mapping[str, Any] = field(default_factory=dict)
    check_backbone: str | None = None
    check_learning_rate: float = 0.05
    offers: tuple[str, ...] = ()
    xla: bool = True
    least_examples: int = 1
    labels: bool = False
    expected_failures: Mapping[str, str] = field(default_factory=dict)
    encodes: str = ""

    @property
    def backbone_modality(self) -> str:
        """The modality of the backbones that it trains."""
        return self.encodes or self.modality


@dataclass(frozen=True, kw_only=True)
class BackboneSpec:
    """An encoder that goes downstream.

    target: `"module:function"`, called as `function(input_shape, options)`; returns a Functional `keras.Model` that
    maps float images in [0, 1], `[B, *input_shape]`, to a dict of the outputs named in `offers`. One for text is called
    with (length T, vocabulary size V) and takes int32 tokens `[B, T]`, in which 0 is padding.
    offers: "embedding" always; "map" for the last feature map, "map_1", "map_2", ... for earlier ones; "tokens". What
        it has under any options: one that names "map_1" may have more of the earlier maps.
    abilities: what methods may ask of it beside its outputs: "token_subset", it encodes any subset of an image's
        patches; "masked_tokens", it takes a vector in the place of some of them (`kzoo.patches`); "dropout", its option
        `dropout` is the share of features that training leaves out, by `kzoo.layers.Dropout`.
    strides: pixels of the image for each position of map_1, map_2, ... and of map, fine to coarse, under its default
        options; () where it says nothing of them.
    min_size: the smallest image side in pixels that it accepts.
    any_size: it can be built with height and width None, and one model then takes images of any size.
    check_options: options that make it small enough for the conformance suite (`kzoo check`).
    expected_failures: checks of that suite which it knowingly does not pass, as for a method.
    """

    name: str
    target: str
    options: type[Options]
    family: str
    summary: str
    paper: str = ""
    modality: str = "image"
    offers: tuple[str, ...] = ("embedding",)
    min_size: int = 8
    any_size: bool = False
    check_options: Mapping[str, Any] = field(default_factory=dict)
    abilities: tuple[str, ...] = ()
    expected_failures: Mapping[str, str] = field(default_factory=dict)
    strides: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """A named source of examples.

    name: `lower_snake_case`; or a prefix with what follows it, "text:<path>", for recipes to name any: "text:~/books".
    target: `"module:function"`, called as `function(split, options)`; returns a `kzoo.data.Source`. That of a prefix
        is called as `function(rest, split, options)`, with what follows the colon.
    splits: the splits it has. classes: number of classes, 0 where there are no labels.
    image_shape: (height, width, channels) where all images share it, else None.
    sizes: examples of each split, by its name, where they are always the same; an option `limit` may take fewer.
    path: what follows the prefix is a file or folder: recipes and runs then name it from the root.
    source: where the examples come from. licence: theirs, "" where it is not known.
    """

    name: str
    target: str
    options: type[Options]
    summary: str
    modality: str = "image"
    splits: tuple[str, ...] = ("train", "test")
    classes: int = 0
    image_shape: tuple[int, int, int] | None = None
    licence: str = ""
    source: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)
    path: bool = False


@dataclass(frozen=True, kw_only=True)
class ModalitySpec:
    """A kind of data: images, text, video.

    target: `"module:name"`, a `kzoo.modality.Modality`. key: what of a batch goes into the backbone, and the name of
    the backbone's input layer, "image". summary: one line.
    """

    name: str
    target: str
    key: str
    summary: str
    options: type[Options] = Options


@dataclass(frozen=True, kw_only=True)
class PresetSpec:
    """A trained backbone: its weights are a package too. `kzoo pack` writes these records; `kzoo.presets` reads them.

    What lies in the package is named `"package:path"`, "kzoo_mine:presets/a.b/backbone.keras".

    name: `backbone.tag`, by custom the tag is method and data: "small_resnet.simclr_digits".
    backbone: registered name of the backbone; backbone_options: its options, where they are not the defaults.
    method: registered name of the method that trained it.
    input_shape: of one example, (height, width, channels); of text (length, vocabulary size).
    vocabulary: of text, a JSON list in the package: what each token number stands for.
    weights: a Keras model, `.keras`: a file in the package, or a URL (https, http, file).
    sha256: of the weights' file, in hex. size: of it, in bytes.
    recipe: a file in the package, the recipe that it was trained with.
    answers: a file in the package, `.npz`: recorded "inputs", uint8 images or int32 tokens, and their "embedding".
    data: what it was trained on, as recipes name it. data_licence: of that, "" where it is not known.
    figures: of its evaluation, "trained" and "untrained" beside each other, "verdict" for each probe; see
        `kzoo.evaluate.compare`.
    licence: of the weights, "" where none is given. summary: one line.
    """

    name: str
    backbone: str
    weights: str
    sha256: str
    input_shape: tuple[int, ...]
    data: str
    summary: str
    backbone_options: Mapping[str, Any] = field(default_factory=dict)
    method: str = ""
    modality: str = "image"
    vocabulary: str = ""
    size: int = 0
    recipe: str = ""
    answers: str = ""
    data_licence: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """What a method is told of the data that it will learn from, when it is built.

    examples: number of training examples, whose "id" is below it; none where it is not known. classes: the names that
    labels index. vocabulary: of text, what each token number stands for. element: shape and type of each tensor of one
    example, by name: {"image": ((32, 32, 3), "uint8")}. modality: of the data, "" where it is not known.
    """

    examples: int | None = None
    classes: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = ()
    element: Mapping[str, tuple[tuple[int, ...], str]] = field(default_factory=dict)
    modality: str = ""

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        element = {name: [list(shape), kind] for name, (shape, kind) in self.element.items()}
        return {
            "examples": self.examples,
            "classes": list(self.classes),
            "vocabulary": list(self.vocabulary),
            "element": element,
            "modality": self.modality,
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "DataFacts":
        """From what `as_json` returned."""
        return cls(
            examples=plain["examples"],
            classes=tuple(plain["classes"]),
            vocabulary=tuple(plain["vocabulary"]),
            element={name: (tuple(shape), kind) for name, (shape, kind) in plain["element"].items()},
            modality=plain["modality"],
        )


@dataclass(frozen=True, kw_only=True)
class FormatSpec:
    """A file format that a trained backbone is exported in.

    target: `"module:function"` that writes it, called as `function(exportable, file)` with a
        `kzoo.export.formats.Exportable` and the path of `file`, in a folder that it may put more files into. Returns
        what the contract says of it besides, plain JSON; "largest_error" where it was compared with the backbone too.
    reader: `"module:function"`, called as `function(file)`; returns a function from named arrays, a batch of any size,
        to named arrays. It runs in a process of its own, where kzoo, Keras and TensorFlow cannot be imported, unless
        TensorFlow is its runtime: its module imports what it reads with, and NumPy.
    file: its name in the export. runtime: the distribution that reads it. writes_with: those that it is written with.
    install: what pip installs both by.
    """

    name: str
    target: str
    reader: str
    file: str
    runtime: str
    summary: str
    install: str
    writes_with: tuple[str, ...] = ()
    options: type[Options] = Options


def too_few(name: str, batch_size: int, parts: int, least: int) -> str:
    """One line on a batch, cut in parts for one update, that a method cannot learn from."""
    shown = f"{batch_size} in {parts} parts" if parts > 1 else str(batch_size)
    return f"'{name}' learns nothing from fewer than {least} examples at once; received {shown}"


def lacks_labels(data: str, method: MethodSpec) -> str:
    """One line on data without labels, where a method or the recipe's `data.labels` asks for them."""
    return f"'{data}' has no labels, " + (
        f"and method '{method.name}' learns from them" if method.labels else "so data.labels can hide none"
    )


CodeSpec = MethodSpec | BackboneSpec | DatasetSpec | ModalitySpec | FormatSpec  # those with a target and options
Spec = CodeSpec | PresetSpec
