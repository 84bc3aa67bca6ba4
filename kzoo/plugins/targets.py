"""From a record to the code that its target names: options that hold, methods, backbones and datasets that are built.

This is where a plugin's code is imported; listing and checking (`kzoo.plugins.registry`) touch records only.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from kzoo.errors import OptionsError, PluginError
from kzoo.options import ImageOptions, Options, place
from kzoo.plugins import registry
from kzoo.plugins.explain import complaints, explain
from kzoo.plugins.load import describe
from kzoo.specs import BackboneSpec, CodeSpec, DataFacts, MethodSpec, Spec
from kzoo.system import surroundings

if TYPE_CHECKING:
    import keras

    from kzoo.data.source import Source
    from kzoo.method import Method
    from kzoo.modality import Modality


def resolve(spec: CodeSpec) -> Any:
    """Import what a record's target names. Raises PluginError, naming plugin and target, where that fails."""
    module, _, attribute = spec.target.partition(":")
    try:
        found = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
        return found
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin's module may do anything, sys.exit() too
        raise PluginError(
            f"{_brought_by(spec)} cannot be imported from '{spec.target}': {describe(error)}; {_remedy(spec)}"
        ) from error


def validate_options(spec: CodeSpec, values: Mapping[str, Any]) -> Options:
    """The checked options of a method, backbone or dataset. Raises OptionsError, one line for each problem."""
    try:
        return checked_options(spec, values)
    except ValidationError as error:
        raise OptionsError(
            [
                f"{spec.name}: {'.'.join(map(str, place(item)))}: {explain(item, spec.options)}"
                for item in complaints(error)
            ]
        ) from None


def checked_options(spec: CodeSpec, values: Mapping[str, Any] | str) -> Options:
    """The options from Python values, or strictly from JSON text. Raises pydantic's ValidationError.

    Raises PluginError where the class itself is wrong, which pydantic notices on first use.
    """
    try:
        if isinstance(values, str):
            return spec.options.model_validate_json(values, strict=True)
        return spec.options.model_validate(dict(values))
    except ValidationError:
        raise
    except Exception as error:
        raise PluginError(
            f"{_brought_by(spec)} has options that cannot be used: {describe(error)}; {_remedy(spec)}"
        ) from error


def modality(name: str) -> "Modality":
    """A kind of data, with its code. Raises PluginError where no plugin brings it, or it cannot be imported."""
    return resolve(registry.find_modality(name))


def modality_taking(key: str) -> "Modality":
    """The kind of data that a backbone takes whose input layer has this name; images where none has it."""
    return resolve(next((spec for spec in registry.modalities() if spec.key == key), registry.OWN_MODALITIES[0]))


def build_method(
    name: str, /, backbone: "keras.Model", *, data: "DataFacts | Source | None" = None, **options: Any
) -> "Method":
    """Build a registered method around a backbone.

    data: what is known of the data to learn from, a source or its `DataFacts`, for methods that remember each example,
        or learn from labels or words.
    options: the method's own, as `kzoo show NAME` lists them.
    Raises PluginError (no such method, or it cannot be imported) or OptionsError.
    """
    surroundings.refuse_by_hand()
    spec = registry.find_method(name)
    checked = validate_options(spec, options)
    allowed = image_channels(spec, checked)
    if allowed and backbone.input_shape[-1] not in allowed:
        wanted = " or ".join(map(str, allowed))
        raise OptionsError(
            [f"{name}: needs images of {wanted} channel(s); the backbone takes {backbone.input_shape[-1]}"]
        )
    known = DataFacts(modality=spec.modality) if data is None else data  # of a video method the backbone takes images
    return resolve(spec)(backbone, checked, data=known, name=spec.name.replace("/", "_"))


def image_channels(spec: MethodSpec, options: Options) -> tuple[int, ...]:
    """Numbers of image channels that a method can learn from under its options; () means any."""
    own = options.image_channels() if isinstance(options, ImageOptions) else None
    return spec.channels if own is None else own


def build_backbone(name: str, /, input_shape: tuple[int | None, ...], **options: Any) -> "keras.Model":
    """Build a registered backbone: a Functional `keras.Model`, float [B, *input_shape] in [0, 1] to named outputs.

    input_shape: (height, width, channels); height and width may be None where its record says `any_size`. Of text,
    (length, vocabulary size).
    options: the backbone's own, as `kzoo show NAME` lists them.
    Raises PluginError (no such backbone, or it cannot be imported) or OptionsError, for images that are too small too.
    """
    spec = registry.find_backbone(name)
    checked = validate_options(spec, options)
    if small := too_small(spec, input_shape):
        raise OptionsError([small])
    surroundings.refuse_by_hand()
    return resolve(spec)(input_shape, checked)


def too_small(spec: BackboneSpec, input_shape: tuple[int | None, ...]) -> str:
    """Why images of this shape, (height, width, channels), are too small for a backbone; "" where they are not."""
    sides = [side for side in input_shape[-3:-1] if side is not None]
    if len(input_shape) < 3 or not sides or min(sides) >= spec.min_size:
        return ""
    size = " x ".join(map(str, sides))
    return f"images of {size} pixels are too small for '{spec.name}', which takes {spec.min_size} and up"


def open_dataset(name: str, /, split: str = "train", **options: Any) -> "Source":
    """Open a split of a registered dataset, or of one that is named by a prefix, as `folder:<path>`.

    options: the dataset's own, as `kzoo show NAME` lists them.
    Raises PluginError (no such dataset, or it cannot be imported), OptionsError, or DataError (no such split or files).
    """
    spec = registry.find_dataset(name)
    checked = validate_options(spec, options)
    _, colon, rest = name.partition(":")
    return resolve(spec)(rest, split, checked) if colon else resolve(spec)(split, checked)


def _brought_by(spec: Spec) -> str:
    plugin = registry.provider(spec)
    return f"'{spec.name}' of {plugin.title}" if plugin else f"'{spec.name}'"


def _remedy(spec: Spec) -> str:
    plugin = registry.provider(spec)
    return f"pip install --upgrade {(plugin and plugin.distribution) or 'kzoo'}"
