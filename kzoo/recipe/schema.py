"""The sections and keys of a recipe, their types, ranges and defaults."""

import hashlib
import json
from io import StringIO
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from ruamel.yaml import YAML

from kzoo.options import refuse_huge
from kzoo.recipe.document import dotted
from kzoo.schedules import NonNegative, Rate, bounds_of

SectionType = TypeVar("SectionType", bound="Section")
FORMAT = 1


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
    """The examples: a plugin's dataset, `tfds:<builder>`, `folder:<path>`, or another name with a prefix."""

    name: str = Field(description="dataset: see `kzoo list datasets`; or 'tfds:<builder>' or 'folder:<path>'")
    split: str = Field("train", description="split to read")


class Labels(Section):
    """Which labels of the training examples the method may see; the probes see all of them."""

    per_class: int | None = Field(
        None, ge=1, description="labels to show of each class, the others are hidden; none: as fraction says"
    )
    fraction: float | None = Field(
        None,
        gt=0,
        le=1,
        description="share of each class to show the labels of, at least one; none: all, or per_class",
    )
    share: float | None = Field(
        None,
        gt=0,
        le=1,
        description="share of each batch that is labelled, by examples drawn again and again as needed; the rest is "
        "drawn from all examples and has no labels; none: batches are drawn from all, as they come",
    )

    @model_validator(mode="after")
    def _one_choice(self) -> "Labels":
        if self.per_class is not None and self.fraction is not None:
            raise ValueError("per_class and fraction exclude each other; keep one")
        return self


class TrainingData(Data):
    """The examples to train on, and which of their labels the method sees."""

    labels: Labels | None = Field(None, description="hide labels from the method; none: it sees those that there are")


class Optimizer(Section):
    """The optimizer, its learning rate and how both change over the epochs."""

    name: Literal["sgd", "lars", "adam", "adamw"] = Field("sgd", description="update rule")
    learning_rate: Rate = Field(
        0.06, description="peak learning rate, before scaling by `per`; or a schedule of its own, `kzoo.schedules`"
    )
    per: int | None = Field(
        None,
        gt=0,
        description="batch size that learning_rate is for: it is scaled by batch_size / per; none: not scaled",
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of sgd and lars")
    nesterov: bool = Field(False, description="Nesterov's momentum, sgd only")
    beta_1: float = Field(0.9, ge=0, lt=1, description="decay of the first moment, adam and adamw")
    beta_2: float = Field(0.999, ge=0, lt=1, description="decay of the second moment, adam and adamw")
    weight_decay: NonNegative = Field(
        5e-4, description="weight decay, of what decay_scope says; a number or a schedule"
    )
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
    trust_coefficient: float = Field(
        1e-3, gt=0, description="of lars: how far a step goes, as a share of the weights' norm"
    )
    schedule: Literal["constant", "cosine", "step"] = Field("cosine", description="learning rate after the warm-up")
    warmup_epochs: float = Field(0, ge=0, description="epochs of linear warm-up from 0")
    milestones: tuple[int, ...] = Field((), description="epochs at which schedule step multiplies the rate by drop")
    drop: float = Field(0.1, gt=0, lt=1, description="factor at each milestone")
    final: float = Field(0.0, ge=0, le=1, description="share of the peak rate that schedule cosine ends at")
    clip_norm: float | None = Field(None, gt=0, description="largest norm of the whole gradient; none: not clipped")
    clip_tensor_norm: float | None = Field(
        None, gt=0, description="largest norm of each variable's gradient; none: not clipped"
    )

    def scaling(self, batch_size: int) -> float:
        """What the learning rate is multiplied by for a global batch: `batch_size / per`."""
        return batch_size / self.per if self.per else 1.0

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
    low_shot: int | None = Field(
        10, ge=1, description="labels for each class in a second linear probe; none, or no linear: left out"
    )
    features: tuple[str, ...] = Field(
        ("embedding",),
        min_length=1,
        description="outputs of the encoder to probe, as its backbone offers them, each beside its untrained self; "
        "maps are averaged over positions",
    )
    every: int | None = Field(
        None,
        ge=1,
        description="epochs from one nearest-neighbour probe while training to the next, of at most 5,000 examples; "
        "none: only at the end",
    )
    max_train: int | None = Field(None, ge=2, description="most labelled examples to fit probes on; none: all")
    max_test: int | None = Field(None, ge=1, description="most examples to test on; none: all")
    data: Data | None = Field(
        None, description="what to test on; none: split test of the training dataset, where it has one"
    )
    train: Data | None = Field(
        None,
        description="labelled examples that the probes learn from, which the method need not have seen; data has "
        "those of the same classes to test on; none: the training data",
    )

    @model_validator(mode="after")
    def _every_asks_knn(self) -> "Evaluate":
        if self.every is not None and self.knn is None:
            raise ValueError("every asks the nearest-neighbour probe while training; set knn too, or leave every out")
        return self


class Export(Section):
    """What is written for serving when training ends."""

    formats: tuple[str, ...] = Field(
        ("saved_model",), description="formats to export, see `kzoo list formats`; may be empty"
    )


class Recipe(Section):
    """A whole recipe. Sections that a file leaves out have their defaults."""

    kzoo: Literal[1] = Field(1, description="version of the recipe format")
    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="name of the run's folder: letters, digits, '.', '_' and '-'",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="of all randomness")
    data: TrainingData = Field(description="what to train on")
    backbone: Named = Field(description="what is trained and goes downstream")
    method: Named = Field(description="how it is trained")
    init_from: str | None = Field(
        None,
        description="whose backbone the training begins with: the folder of a run or an export, or a preset; none: new "
        "weights",
    )
    optimizer: Optimizer = Field(default_factory=Optimizer, description="the update rule and its learning rate")
    train: Train = Field(default_factory=Train, description="how long and on what")
    evaluate: Evaluate = Field(default_factory=Evaluate, description="what is measured after training")
    export: Export = Field(default_factory=Export, description="what is written for serving")
    callbacks: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="what plugins' callbacks are told, by the plugin's name, see `kzoo list plugins`",
    )

    @property
    def scaled_learning_rate(self) -> float:
        """The peak learning rate for this recipe's batch."""
        return max(bounds_of(self.optimizer.learning_rate)) * self.optimizer.scaling(self.train.batch_size)


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
    devices, checkpoints, evaluation, export or callbacks.
    """
    return hashlib.sha256(json.dumps(decisive(recipe), sort_keys=True).encode()).hexdigest()


def decisive(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain data, without what a run may change when it resumes."""
    free = {"strategy", "devices", "jit_compile", "checkpoint", "epochs"}
    exclude: dict[str, Any] = {"name": True, "evaluate": True, "export": True, "callbacks": True, "train": free}
    return recipe.model_dump(mode="json", exclude=exclude)


def changes(before: dict[str, Any], after: dict[str, Any], path: tuple[str, ...] = ()) -> list[str]:
    """What differs between two recipes as plain data, a line for each key: "optimizer.momentum: 0.9, was 0.8"."""
    lines = []
    for key in [*before, *(key for key in after if key not in before)]:
        old, new, here = before.get(key), after.get(key), (*path, key)
        if isinstance(old, dict) and isinstance(new, dict):
            lines += changes(old, new, here)
        elif old != new:
            lines.append(f"{dotted(here)}: {json.dumps(new)}, was {json.dumps(old)}")
    return lines


def section_of(data: dict[str, Any], key: str, model: type[SectionType]) -> SectionType:
    """One section of a recipe's plain data, defaults filled in. Raises pydantic's ValidationError."""
    return model.model_validate_json(json.dumps(data.get(key, {})))
