"""A recipe: the YAML file that names a dataset, a backbone, a method and the training settings. Inert text.

`load` answers every problem at once, each as one line `file:line: key: what`, without importing TensorFlow. Plugins are
named by their registered names only, YAML tags, anchors and aliases are refused: reading a recipe never runs code and
cannot blow up.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

import kzoo
from kzoo import registry
from kzoo.errors import PluginError, RecipeError
from kzoo.options import absolute, place, refuse_huge
from kzoo.specs import BackboneSpec, DatasetSpec, MethodSpec, Spec, too_few

SectionType = TypeVar("SectionType", bound="Section")
FORMAT = 1
_SCALARS = SafeConstructor(loader=YAML(typ="safe", pure=True))
_LARGEST = 20_000  # bytes; the YAML parser is pure Python and takes a second for 50 kB. A recipe is some forty lines
_DEEPEST = 50  # open brackets; the parser's time grows faster than their number


class Section(BaseModel):
    """Base of a recipe's sections: frozen, unknown keys refused, no infinities, whole numbers held by int32."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=(), defer_build=True
    )

    @field_validator("*")
    @classmethod
    def _held_by_int32(cls, value: Any) -> Any:
        refuse_huge(value)
        return value


class Named(Section):
    """Something a plugin brings, by its registered name."""

    name: str = Field(description="registered name, see `kzoo list`")
    options: dict[str, Any] = Field(default_factory=dict, description="its own options, see `kzoo show NAME`")


class Data(Named):
    """The examples: a plugin's dataset, `tfds:<builder>`, `folder:<path>` or what else takes a prefix."""

    name: str = Field(description="dataset: see `kzoo list datasets`; or 'tfds:<builder>' or 'folder:<path>'")
    split: str = Field("train", description="split to read")


class Optimizer(Section):
    """The optimizer, its learning rate and how both change over the epochs."""

    name: Literal["sgd", "lars", "adam", "adamw"] = Field("sgd", description="update rule")
    learning_rate: float = Field(0.06, gt=0, description="peak learning rate, before scaling by `per`")
    per: int | None = Field(
        None,
        gt=0,
        description="batch size that learning_rate is for: it is scaled by batch_size / per; none: not scaled",
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of sgd and lars")
    nesterov: bool = Field(False, description="Nesterov's momentum, sgd only")
    beta_1: float = Field(0.9, ge=0, lt=1, description="decay of the first moment, adam and adamw")
    beta_2: float = Field(0.999, ge=0, lt=1, description="decay of the second moment, adam and adamw")
    weight_decay: float = Field(5e-4, ge=0, description="weight decay, of what decay_scope says")
    decay: Literal["coupled", "decoupled"] | None = Field(
        None,
        description="coupled: part of the gradient, as papers with sgd, lars and adam mean it; decoupled: beside it, "
        "as adamw has it; none: what the optimizer's name says",
    )
    decay_scope: Literal["weights", "all"] = Field(
        "weights",
        description="what decays: weights; or all, biases and normalisation too, as in scripts that give torch's "
        "optimizer every parameter alike",
    )
    trust: float = Field(1e-3, gt=0, description="trust coefficient of lars")
    schedule: Literal["constant", "cosine", "step"] = Field("cosine", description="learning rate after the warm-up")
    warmup_epochs: float = Field(0, ge=0, description="epochs of linear warm-up from 0")
    milestones: tuple[int, ...] = Field((), description="epochs at which schedule step multiplies the rate by drop")
    drop: float = Field(0.1, gt=0, lt=1, description="factor at each milestone")
    final: float = Field(0.0, ge=0, le=1, description="share of the peak rate that schedule cosine ends at")
    clip_norm: float | None = Field(None, gt=0, description="largest norm of the whole gradient; none: not clipped")
    clip_tensor_norm: float | None = Field(
        None, gt=0, description="largest norm of each variable's gradient; none: not clipped"
    )

    def scaled_rate(self, batch_size: int) -> float:
        """The peak learning rate for a global batch: `learning_rate * batch_size / per`."""
        return self.learning_rate * batch_size / self.per if self.per else self.learning_rate

    @property
    def kind_of_decay(self) -> Literal["coupled", "decoupled"]:
        """How the weights decay: as the recipe says, else as the optimizer's name does."""
        return self.decay or ("decoupled" if self.name == "adamw" else "coupled")


class Checkpoints(Section):
    """When the training is saved, besides at its beginning, at its end and when it is told to stop."""

    every_epochs: int | None = Field(1, ge=1, description="save after so many epochs; none: not at their ends")
    every_steps: int | None = Field(None, ge=1, description="save after so many steps; none: not by steps")
    every_minutes: float | None = Field(15, gt=0, description="save when the last is so old; none: not by the clock")
    keep: int = Field(2, ge=1, description="newest checkpoints to keep")


class Train(Section):
    """How long, on what and how exactly."""

    epochs: int = Field(100, ge=1, description="passes over the split, or stretches of steps_per_epoch")
    batch_size: int = Field(256, ge=1, description="examples in one update, over all devices together")
    steps_per_epoch: int | None = Field(
        None, ge=1, description="updates in an epoch, in place of one pass over the split; none: one pass"
    )
    strategy: Literal["auto", "single", "mirrored", "multi_worker"] = Field(
        "auto", description="auto: multi_worker where TF_CONFIG is set, mirrored on several devices, else single"
    )
    devices: int | None = Field(None, ge=1, description="number of devices of this machine to use; none: all")
    precision: Literal["float32", "float64", "mixed_float16", "mixed_bfloat16"] = Field(
        "float32", description="Keras dtype policy; float64 is slow, and tells differences from rounding errors"
    )
    jit_compile: Literal["auto", True, False] = Field(
        "auto", description="compile with XLA; auto: on one accelerator only, never on the CPU, where it is slower"
    )
    accumulate: int = Field(1, ge=1, description="cut each batch into so many parts to save memory; still one update")
    checkpoint: Checkpoints = Field(default_factory=Checkpoints, description="when the training is saved")


class NearestNeighbours(Section):
    """The k-nearest-neighbour probe (Wu et al. 2018, arXiv:1805.01978, section 3.4)."""

    k: int = Field(20, ge=1, description="neighbours that vote")
    temperature: float = Field(0.07, gt=0, description="a neighbour's vote is exp(cosine similarity / temperature)")


class LinearProbe(Section):
    """The linear probe: logistic regression on the frozen embedding; it chooses its regularisation itself."""


class Evaluate(Section):
    """What is measured after training, on the trained backbone and on the untrained one."""

    knn: NearestNeighbours | None = Field(
        default_factory=NearestNeighbours, description="nearest-neighbour probe; none: left out"
    )
    linear: LinearProbe | None = Field(default_factory=LinearProbe, description="linear probe; none: left out")
    low_shot: int | None = Field(10, ge=1, description="labels for each class in a second linear probe; none: left out")
    features: tuple[str, ...] = Field(
        ("embedding",),
        min_length=1,
        description="outputs of the encoder to probe, as its backbone offers them, each beside its untrained self; "
        "maps are averaged over positions",
    )
    max_train: int | None = Field(None, ge=2, description="most labelled examples to fit probes on; none: all")
    max_test: int | None = Field(None, ge=1, description="most examples to test on; none: all")
    data: Data | None = Field(
        None, description="what to test on; none: split test of the training dataset, where it has one"
    )


class Export(Section):
    """What is written for serving when training ends."""

    formats: tuple[Literal["saved_model"], ...] = Field(("saved_model",), description="formats to export; may be empty")


class Recipe(Section):
    """A whole recipe. Sections that a file leaves out have their defaults."""

    kzoo: Literal[1] = Field(1, description="version of the recipe format")
    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="name of the run's folder: letters, digits, '.', '_' and '-'",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="of all randomness")
    data: Data = Field(description="what to train on")
    backbone: Named = Field(description="what is trained and goes downstream")
    method: Named = Field(description="how it is trained")
    optimizer: Optimizer = Field(default_factory=Optimizer, description="the update rule and its learning rate")
    train: Train = Field(default_factory=Train, description="how long and on what")
    evaluate: Evaluate = Field(default_factory=Evaluate, description="what is measured after training")
    export: Export = Field(default_factory=Export, description="what is written for serving")

    @property
    def scaled_learning_rate(self) -> float:
        """The peak learning rate for this recipe's batch."""
        return self.optimizer.scaled_rate(self.train.batch_size)


def load(path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read and check a recipe, with every default and every plugin option filled in.

    overrides: `"method.options.temperature=0.1"`, the value read as YAML; they win over the file. Those that put in
        another method, and no other `name`, add it to the name: "quickstart-rotation".
    Raises RecipeError with all problems at once, or PluginError where the only problems are plugins that are missing,
    broken or ambiguous.
    """
    document = _Document(str(path))
    if not document.read():
        document.refuse()
    method = _at(document.data, "method.name")
    for override in overrides:
        document.override(override)
    _name_anew(document, method)
    options = _check_plugins(document)
    recipe = _check_schema(document)
    document.refuse()
    filled = cast(Recipe, recipe).model_dump(mode="json")
    for section, values in options.items():
        named = _at(filled, section)
        named["options"] = values
        if section.endswith("data") and registry.find_dataset(named["name"]).path:
            prefix, _, rest = named["name"].partition(":")
            named["name"] = f"{prefix}:{absolute(rest)}"
    return Recipe.model_validate_json(json.dumps(filled))


def dump(recipe: Recipe) -> str:
    """The recipe as YAML with every default written out; `load` reads it back equal."""
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 120
    out = StringIO()
    yaml.dump(recipe.model_dump(mode="json"), out)
    return out.getvalue()


def recipe_hash(recipe: Recipe) -> str:
    """SHA-256 (hex) of what a run cannot change when it resumes: the same for recipes that differ only in name, epochs,
    devices, checkpoints, evaluation or export.
    """
    return hashlib.sha256(json.dumps(decisive(recipe), sort_keys=True).encode()).hexdigest()


def decisive(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain data, without what a run may change when it resumes."""
    free = {"strategy", "devices", "jit_compile", "checkpoint", "epochs"}
    return recipe.model_dump(mode="json", exclude={"name": True, "evaluate": True, "export": True, "train": free})


def changes(before: dict[str, Any], after: dict[str, Any], path: tuple[str, ...] = ()) -> list[str]:
    """What differs between two recipes as plain data, a line for each key: "optimizer.momentum: 0.9, was 0.8"."""
    lines = []
    for key in [*before, *(key for key in after if key not in before)]:
        old, new, here = before.get(key), after.get(key), (*path, key)
        if isinstance(old, dict) and isinstance(new, dict):
            lines += changes(old, new, here)
        elif old != new:
            lines.append(f"{_dotted(here)}: {json.dumps(new)}, was {json.dumps(old)}")
    return lines


Keys = tuple[str | int, ...]  # where a value is: ("method", "options", "temperature")


@dataclass
class _Document:
    """A recipe's text as plain data, with the line or the override that each key comes from, and all its problems."""

    source: str
    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[Keys, int] = field(default_factory=dict)
    overrides: dict[Keys, str] = field(default_factory=dict)
    problems: list[tuple[int, str, bool]] = field(default_factory=list)  # (order, line of text, is a plugin's)
    unreadable: set[Keys] = field(default_factory=set)

    def read(self) -> bool:
        """Parse the file; False where it holds nothing that could be checked further."""
        path = Path(self.source)
        try:
            if path.stat().st_size > _LARGEST:
                return self._unreadable(f"is larger than {_LARGEST // 1000} kB; a recipe is a short text")
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return self._unreadable("no such file; name a recipe, for example recipes/quickstart.yaml")
        except UnicodeDecodeError:
            return self._unreadable("is not UTF-8 text")
        except OSError as error:
            return self._unreadable(f"cannot be read: {error.strerror}")
        try:
            node = _compose(text)
            self.lines[()] = 1
            if not isinstance(node, MappingNode):
                return self._unreadable(
                    "is not a recipe; write `name: ...`, `data: ...`, `backbone: ...`, `method: ...`"
                )
            self.data = self._plain(node, (), self.lines)
        except YAMLError as error:
            return self._unreadable(*_syntax(error))
        except RecursionError:
            return self._unreadable("is nested too deeply")
        return True

    def override(self, text: str) -> None:
        """Apply one `key=value`."""
        key, equals, value = text.partition("=")
        path = tuple(key.strip().split("."))
        if not equals or not all(path):
            self._say(len(self.overrides), f"--set {text}: write key=value, for example train.epochs=10")
            return
        for known in (self.lines, self.overrides):
            for old in [old for old in known if old[: len(path)] == path]:
                del known[old]
        self.overrides[path] = text
        try:
            node = _compose(value)
            plain = None if node is None else self._plain(node, path, {})
        except (YAMLError, RecursionError) as error:
            self.problem(path, _syntax(error)[0] if isinstance(error, YAMLError) else "is nested too deeply")
            return
        section = self.data
        for depth, part in enumerate(path[:-1], start=1):
            if section.get(part) is None:
                section[part] = {}
            section = section[part]
            if not isinstance(section, dict):
                self.problem(path, f"{_dotted(path[:depth])} is not a section")
                return
        section[path[-1]] = plain

    def problem(self, path: Keys, message: str, *, plugin: bool = False) -> None:
        """Note what is wrong with the value at a path, unless it could not be read in the first place."""
        if any(path[: len(known)] == known for known in self.unreadable):
            return
        nearest = path
        while nearest and nearest not in self.lines and nearest not in self.overrides:
            nearest = nearest[:-1]
        key = f"{_dotted(path)}: " if path else ""
        if nearest in self.overrides:
            where, order = f"--set {self.overrides[nearest]}", 10**9 + list(self.overrides).index(nearest)
            key = "" if nearest == path else key
        else:
            order = self.lines[nearest]
            where = f"{self.source}:{order}"
        self._say(order, f"{where}: {key}{message}", plugin)

    def refuse(self) -> None:
        """Raise where there are problems: all of them, in the order of the file."""
        if not self.problems:
            return
        lines = [line for _, line, _ in sorted(self.problems, key=lambda problem: problem[0])]
        if all(plugin for _, _, plugin in self.problems):
            raise PluginError("\n".join(lines))
        raise RecipeError(lines)

    def _say(self, order: int, line: str, plugin: bool = False) -> None:
        self.problems.append((order, line, plugin))

    def _unreadable(self, message: str, line: int | None = None) -> bool:
        where = self.source if line is None else f"{self.source}:{line}"
        self._say(0, f"{where}: {message}")
        return False

    def _plain(self, node: Node, path: Keys, lines: dict[Keys, int]) -> Any:
        """A YAML node as dicts, lists and scalars. Notes each key's line; reports what a recipe must not hold."""
        if node.anchor is not None:
            return self._forbid(path, "anchors and aliases are not allowed; write the value out")
        tag = str(node.tag).removeprefix("tag:yaml.org,2002:")
        if isinstance(node, ScalarNode):
            if tag in ("str", "timestamp"):
                return node.value
            if tag in ("null", "bool", "int", "float"):
                try:
                    return _SCALARS.construct_object(node)
                except ValueError:
                    return self._forbid(path, f"'{node.value}' is not of type !!{tag}")
        elif tag == "seq":
            return [self._plain(item, (*path, index), lines) for index, item in enumerate(node.value)]
        elif isinstance(node, MappingNode) and tag == "map":
            return self._mapping(node, path, lines)
        return self._forbid(path, f"tag {node.tag} is not allowed; write a plain value")

    def _mapping(self, node: MappingNode, path: Keys, lines: dict[Keys, int]) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode) or str(key.tag).endswith(":merge"):
                self._say(line, f"{self.source}:{line}: keys are plain words; neither '<<' nor lists are")
                continue
            inner = (*path, key.value)
            if key.value in plain:
                self._say(line, f"{self.source}:{line}: {_dotted(inner)}: repeated; first on line {lines[inner]}")
                continue
            lines[inner] = line
            plain[key.value] = self._plain(value, inner, lines)
        return plain

    def _forbid(self, path: Keys, message: str) -> None:
        self.problem(path, message)
        self.unreadable.add(path)


def _compose(text: str) -> Node | None:
    """YAML text as nodes, which still know their lines. Raises YAMLError, or RecursionError where it is too deep."""
    depth = 0
    for bracket in re.findall(r"[][{}]", text):
        depth += 1 if bracket in "[{" else -1
        if depth > _DEEPEST:
            raise RecursionError
    return YAML(typ="safe", pure=True).compose(text)


def _syntax(error: YAMLError) -> tuple[str, int | None]:
    """What the YAML parser stumbled over, and the line."""
    if isinstance(error, MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        what = " ".join(filter(None, (error.context, error.problem)))
        return f"not YAML: {what}", mark.line + 1 if mark else None
    return f"not YAML: {str(error).splitlines()[0]}", None


def _dotted(path: Keys) -> str:
    return ".".join(map(str, path))


def _at(data: Any, path: str) -> Any:
    """The value at a dotted path of plain data, None where the path leads nowhere."""
    for part in path.split("."):
        data = data.get(part) if isinstance(data, dict) else None
    return data


def _name_anew(document: _Document, before: Any) -> None:
    """Add the method that overrides put in to the recipe's name: it makes another run, and another export."""
    name, method = document.data.get("name"), _at(document.data, "method.name")
    if ("name",) in document.overrides or method == before or not (isinstance(name, str) and isinstance(method, str)):
        return
    document.data["name"] = f"{name}-{re.sub(r'[^A-Za-z0-9._-]+', '-', method)}"[:64]


def _check_schema(document: _Document) -> Recipe | None:
    """Check keys, types and ranges, then what single fields cannot say. None where keys, types or ranges are wrong."""
    recipe, broken = None, set()
    try:
        # through JSON, because there "strict" means: a list may be a tuple, but "3" is not 3, and true is not 1
        recipe = Recipe.model_validate_json(json.dumps(document.data), strict=True)
    except ValidationError as error:
        for item in registry.complaints(error):
            broken.add(item["loc"][0])
            document.problem(item["loc"], _advice(document, item) or registry.explain(item, Recipe))
    optimizer = None if "optimizer" in broken else _section(document, "optimizer", Optimizer)
    train = None if "train" in broken else _section(document, "train", Train)
    if optimizer:
        for key, message in _optimizer_problems(optimizer, train.epochs if train else None):
            document.problem(("optimizer", key), message)
    if train:
        for key, message in _train_problems(train):
            document.problem(("train", key), message)
    return recipe


def _section(document: _Document, key: str, model: type[SectionType]) -> SectionType:
    return model.model_validate_json(json.dumps(document.data.get(key, {})))


def _advice(document: _Document, item: Any) -> str:
    """Better words than the schema's own, where a recipe's author can be told more."""
    *sections, key = map(str, item["loc"])
    if item["loc"] == ("kzoo",):
        received = json.dumps(item["input"])
        return f"this kzoo {kzoo.__version__} reads format {FORMAT}; received {received}; pip install --upgrade kzoo"
    if item["loc"] == ("name",) and item["type"] == "missing":
        return "missing; it names the run's folder"
    if item["loc"] == ("name",) and item["type"] == "string_pattern_mismatch":
        return f"{json.dumps(item['input'])} cannot name a folder; use letters, digits, '.', '_' and '-', 64 at most"
    if item["type"] == "missing":
        kind = "dataset" if "data" in item["loc"] else item["loc"][0]
        return f"missing; `kzoo list {kind}s` names those installed"
    if item["type"] == "extra_forbidden":
        owner = ".".join(sections)
        spec = _find_quietly(owner, _at(document.data, f"{owner}.name")) if owner in _FIND else None
        if spec and key in spec.options.model_fields:
            return f"unknown key; did you mean '{owner}.options.{key}'?"
        homes = [
            name for name, info in Recipe.model_fields.items() if key in getattr(info.annotation, "model_fields", {})
        ]
        if len(homes) == 1 and homes != sections:
            return f"unknown key; did you mean '{homes[0]}.{key}'?"
        if sections and key in Recipe.model_fields:
            return f"unknown key; did you mean '{key}', outside '{owner}'?"
    return ""


def _optimizer_problems(optimizer: Optimizer, epochs: int | None) -> Iterator[tuple[str, str]]:
    """What no single field can say: (key, what is wrong). epochs: of the training, None where that is not known."""
    if optimizer.name != "sgd" and "learning_rate" not in optimizer.model_fields_set:
        yield "learning_rate", f"missing; only sgd has a default, {optimizer.name} needs its own"
    if optimizer.name == "adamw" and optimizer.decay == "coupled":
        yield "decay", "adamw is decoupled by definition; coupled decay is `name: adam`"
    belongs = {"nesterov": ("sgd",), "trust": ("lars",), "beta_1": ("adam", "adamw"), "beta_2": ("adam", "adamw")}
    for key, names in belongs.items():
        if optimizer.name not in names and getattr(optimizer, key) != Optimizer.model_fields[key].default:
            yield key, f"only {' and '.join(names)} can use it, not {optimizer.name}"
    if epochs and optimizer.warmup_epochs > epochs:
        yield "warmup_epochs", f"{optimizer.warmup_epochs:g} is more than train.epochs, {epochs}"
    milestones = list(optimizer.milestones)
    if optimizer.schedule == "step" and not milestones:
        yield "milestones", "missing; schedule step drops the learning rate at these epochs"
    elif optimizer.schedule != "step" and milestones:
        yield "milestones", f"only schedule step can use it, not {optimizer.schedule}"
    elif milestones != sorted({epoch for epoch in milestones if 0 < epoch < (epochs or epoch + 1)}):
        yield "milestones", f"expected rising epochs between 0 and {epochs or 'the last'}; received {milestones}"


def _train_problems(train: Train) -> Iterator[tuple[str, str]]:
    """What no single field can say: (key, what is wrong)."""
    if train.strategy == "single" and (train.devices or 1) > 1:
        yield "devices", f"strategy single uses one device; received {train.devices}; use mirrored"
    parts = (train.devices or 1) * train.accumulate
    if train.batch_size % parts:
        devices = f"{train.devices} devices" if train.devices else ""
        pieces = f"{train.accumulate} accumulated parts" if train.accumulate > 1 else ""
        over = " x ".join(filter(None, (devices, pieces)))
        yield "batch_size", f"{train.batch_size} does not divide over {over}; take a multiple of {parts}"


_FIND: Mapping[str, Callable[[str], Spec]] = {
    "method": registry.find_method,
    "backbone": registry.find_backbone,
    "data": registry.find_dataset,
    "evaluate.data": registry.find_dataset,
}


def _find_quietly(section: str, name: Any) -> Spec | None:
    try:
        return _FIND[section](name) if isinstance(name, str) else None
    except PluginError:
        return None


def _check_plugins(document: _Document) -> dict[str, dict[str, Any]]:
    """Check the plugins a recipe names, their options, and that they fit each other; the full options by section."""
    specs: dict[str, Any] = {}
    options: dict[str, dict[str, Any]] = {}
    for section in _FIND:
        spec = specs[section] = _check_name(document, section)
        checked = _check_options(document, section, spec) if spec else None
        if checked is not None:
            options[section] = checked
    method, backbone, data, test = (specs[key] for key in ("method", "backbone", "data", "evaluate.data"))
    for section in ("data", "evaluate.data"):
        if specs[section]:
            _check_split(document, section, specs[section])
    if method and backbone:
        _check_pair(document, method, backbone)
    for section, spec in (("backbone", backbone), ("data", data), ("evaluate.data", test)):
        if method and spec and spec.modality != method.modality:
            message = f"'{spec.name}' is for {spec.modality}, method '{method.name}' for {method.modality}"
            document.problem((*section.split("."), "name"), message)
    if backbone:
        _check_features(document, backbone, method)
    if method and data and data.image_shape and "method" in options:
        allowed = registry.image_channels(method, registry.validate_options(method, options["method"]))
        if allowed and data.image_shape[2] not in allowed:
            wanted = " or ".join(map(str, allowed))
            message = f"'{data.name}' has {data.image_shape[2]} channel(s); method '{method.name}' needs {wanted}"
            document.problem(("data", "name"), message)
    if backbone:
        _check_size(document, backbone, data, options)
    if method:
        _check_step(document, method)
    return options


def _check_name(document: _Document, section: str) -> Spec | None:
    """The record of what a section names, None where that is a problem or nothing."""
    name, path = _at(document.data, f"{section}.name"), (*section.split("."), "name")
    if not isinstance(name, str):
        return None
    dataset = section.endswith("data")
    prefixes = registry.dataset_prefixes() if dataset else []
    begins = tuple(prefix.partition("<")[0] for prefix in prefixes)
    if not name.startswith(begins) and any(mark in name for mark in ":.\\"):
        *most, last = ["a registered name", *(f"'{prefix}'" for prefix in prefixes)]
        allowed = ", ".join(most) + " or " * bool(most) + last
        document.problem(path, f"'{name}' is not {allowed}; a recipe never names code or files to import")
        return None
    try:
        return _FIND[section](name)
    except PluginError as error:
        document.problem(path, str(error), plugin=True)
        return None


def _check_options(document: _Document, section: str, spec: Spec) -> dict[str, Any] | None:
    """All options of a section, defaults too, as plain data; None where there were problems."""
    owner, path = _at(document.data, section), (*section.split("."), "options")
    if owner.get("options") is None:  # `options:` with nothing after it
        owner["options"] = {}
    if not isinstance(owner["options"], dict):
        return None
    try:
        return registry.checked_options(spec, json.dumps(owner["options"])).model_dump(mode="json")
    except PluginError as error:
        document.problem(path, str(error), plugin=True)
        return None
    except ValidationError as error:
        for item in registry.complaints(error):
            document.problem((*path, *place(item)), registry.explain(item, spec.options))
        return None


def _check_split(document: _Document, section: str, spec: DatasetSpec) -> None:
    split = _at(document.data, f"{section}.split") or "train"
    if spec.splits and isinstance(split, str) and split not in spec.splits:
        near = registry.suggest(split, list(spec.splits))
        message = f"'{spec.name}' has no split '{split}'; it has {', '.join(spec.splits)}{near}"
        document.problem((*section.split("."), "split"), message)


def _check_features(document: _Document, backbone: BackboneSpec, method: MethodSpec | None) -> None:
    wanted = _at(document.data, "evaluate.features")
    owners: list[BackboneSpec | MethodSpec] = [backbone, *([method] if method and method.offers else [])]
    known = [output for owner in owners for output in owner.offers]
    for index, feature in enumerate(wanted if isinstance(wanted, list) else []):
        if isinstance(feature, str) and feature not in known:
            offered = "; ".join(f"'{owner.name}' offers {', '.join(owner.offers)}" for owner in owners)
            message = f"no output '{feature}'; {offered}{registry.suggest(feature, known)}"
            document.problem(("evaluate", "features", index), message)


def _check_step(document: _Document, method: MethodSpec) -> None:
    """Refuse a step that the method cannot make."""
    try:
        train = _section(document, "train", Train)
    except ValidationError:
        return  # `_check_schema` says it
    if train.batch_size // train.accumulate < method.least_examples:
        message = too_few(method.name, train.batch_size, train.accumulate, method.least_examples)
        document.problem(("train", "batch_size"), message)
    if train.jit_compile is True and not method.xla:
        document.problem(("train", "jit_compile"), f"XLA cannot compile '{method.name}'; set auto or false")


def _check_pair(document: _Document, method: MethodSpec, backbone: BackboneSpec) -> None:
    lacking = _lacking(method, backbone)
    if not lacking:
        return
    fitting = [
        other.name
        for other in registry.backbones()
        if other.modality == method.modality and not _lacking(method, other)
    ]
    known = ", ".join(fitting[:6]) + ", ..." * (len(fitting) > 6)
    can = [*backbone.offers, *backbone.abilities, *(["images of any size"] if backbone.any_size else [])]
    offered = ", ".join(can)
    document.problem(
        ("backbone", "name"),
        f"'{backbone.name}' offers {offered}; method '{method.name}' needs {', '.join(lacking)}; "
        + (f"backbones that have it: {known}" if known else "no installed backbone has it"),
    )


def _lacking(method: MethodSpec, backbone: BackboneSpec) -> list[str]:
    """What a method needs and a backbone does not offer."""
    outputs = [output for output in method.requires if output not in (*backbone.offers, *backbone.abilities)]
    return outputs + (["images of any size"] if method.any_size and not backbone.any_size else [])


def _check_size(document: _Document, backbone: BackboneSpec, data: DatasetSpec | None, options: Mapping) -> None:
    """Refuse images smaller than the backbone takes: the method's views, else the dataset's, where known."""
    sizes = [(f"{section}.options.size", options.get(section, {}).get("size")) for section in ("method", "data")]
    if data and data.image_shape:
        sizes.append(("data.name", min(data.image_shape[:2])))
    key, size = next(((key, size) for key, size in sizes if isinstance(size, int)), ("", backbone.min_size))
    if size < backbone.min_size:
        message = f"images of {size} px are too small for '{backbone.name}', which takes {backbone.min_size} and up"
        document.problem(tuple(key.split(".")), message)
