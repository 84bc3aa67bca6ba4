"""A run: the folder that training a recipe leaves, and the method that is built again from it.

recipe.yaml   every default written out      kzoo.json    versions, plugins, device, seed, status, the weights' origin
checkpoints/  logs/  figures/                census.json  what lies in the folder of the data
labels.json   the examples whose labels the method saw, where the recipe hides others
backbone.weights.h5  heads.npz  backbone.keras  evaluation.json
              each made from a state of the training, written down with it; heads.npz holds what the method's signatures
              read besides, backbone.keras the encoder as a Keras model
"""

import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
from rich.console import Console

from kzoo.data.source import Source
from kzoo.errors import CheckpointError, DataError, EvaluationError, RecipeError
from kzoo.method import Method
from kzoo.plugins.load import describe
from kzoo.recipe.load import load
from kzoo.recipe.schema import Recipe, changes, dump, recipe_hash
from kzoo.runs import checkpoint
from kzoo.runs.build import build_method, compile_method, precision, takes, tested_on
from kzoo.runs.heads import load_heads, save_heads
from kzoo.runs.kept import MODEL
from kzoo.runs.plan import steps_per_epoch
from kzoo.runs.provenance import Origin
from kzoo.system import disk
from kzoo.system.files import read_json, replacing, sha256, write_json, write_text


@dataclass(frozen=True)
class Run:
    """The paths of a run, and what is read from them."""

    folder: Path

    @cached_property
    def recipe(self) -> Recipe:
        """Raises RecipeError where the folder is not a run."""
        return load(self.folder / "recipe.yaml", begun=True)

    @property
    def record(self) -> dict[str, Any]:
        """What `kzoo.json` says; {} before it is written, and, with a warning, where it is damaged.

        Nothing that decides is in it alone: what the run was made with is in each checkpoint too.
        """
        return read_json(self.folder / "kzoo.json")

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def figures(self) -> Path:
        return self.folder / "figures"

    @property
    def weights(self) -> Path:
        return self.folder / "backbone.weights.h5"

    @property
    def heads(self) -> Path:
        return self.folder / "heads.npz"

    @property
    def model(self) -> Path:
        return self.folder / MODEL

    @property
    def census(self) -> Path:
        return self.folder / "census.json"

    @property
    def labels(self) -> Path:
        return self.folder / "labels.json"

    @property
    def evaluation(self) -> Path:
        return self.folder / "evaluation.json"

    def start(self, recipe: Recipe, census: Mapping[str, Any] | None) -> None:
        """Make the folder, and write down the recipe and what the data are, where they lie in a folder.

        Raises RecipeError where what was written reads back otherwise, OSError where it cannot be written.
        """
        for folder in (self.checkpoints, self.logs, self.figures):
            folder.mkdir(parents=True, exist_ok=True)
        self.keep_recipe(recipe)
        path = self.folder / "recipe.yaml"
        if lines := changes(recipe.model_dump(mode="json"), load(path, begun=True).model_dump(mode="json")):
            raise RecipeError(
                f"{path}: reads back as another recipe ({'; '.join(lines)}); set values that YAML can hold"
            )
        if census is not None:
            write_json(self.census, dict(census))

    def keep_recipe(self, recipe: Recipe) -> None:
        """Write `recipe.yaml`, where it says anything else."""
        path, text = self.folder / "recipe.yaml", dump(recipe)
        if not path.is_file() or path.read_text("utf-8") != text:
            write_text(path, text)
            self.__dict__.pop("recipe", None)  # what was read before

    def note(self, **entries: Any) -> None:
        """Add entries to `kzoo.json`."""
        write_json(self.folder / "kzoo.json", {**self.record, **entries})

    def origin(self, source: Source) -> Origin:
        """The training of this run, which must have ended: what weights, evaluation and exports are made from.

        source: the split that the run's recipe trains on. Raises EvaluationError where the training has not ended, or
        was that of another recipe than `recipe.yaml` says, DataError where the data has changed since, CheckpointError
        where all checkpoints are damaged and no weights are known.
        """
        recipe = self.recipe
        total = recipe.train.epochs * steps_per_epoch(recipe, source.size)
        made = self._made()
        if made is None:
            raise EvaluationError(f"{self.folder}: no trained backbone; finish it with `kzoo train --resume`")
        if made.recipe_hash != recipe_hash(recipe):
            raise EvaluationError(
                f"{self.folder / 'recipe.yaml'}: is not the recipe that this run was trained with; restore it, or "
                "train what it says now in another --run-dir"
            )
        self.check_data(source, made.data)
        if made.step != total:
            raise EvaluationError(
                f"{self.folder}: the training stands at step {made.step:,} of {total:,}; finish it with "
                "`kzoo train --resume`"
            )
        return Origin(total, made.recipe_hash, source.digest)

    def check_data(self, source: Source, digest: str, split: str = "") -> None:
        """Raise DataError where a source holds other examples than those of this digest; "" is not known."""
        if not digest or not source.digest or digest == source.digest:
            return
        then, now = read_json(self.census), dict(source.census or {})
        lines = changes(then, now) if then.get("folder") == now.get("folder") else []  # of another, nothing is kept
        what = f" ({'; '.join(lines[:3])})" if lines else ""
        raise DataError(
            f"{source.name}{split}: holds other examples, or in another order, than when {self.folder} was begun{what};"
            " restore the data, or start anew in another --run-dir"
        )

    def check_test(self, recipe: Recipe, test: Source | None, known: Mapping[str, Any] | None) -> None:
        """Raise DataError where the split to test on holds other examples than `tested_on` wrote down; None is not
        known. A recipe may ask for other data.
        """
        now = tested_on(recipe, test)
        if not known or known["asked"] != now["asked"]:
            return
        if test is None and known["digest"]:
            raise DataError(
                f"{recipe.data.name}: has no split to test on, and had one when {self.folder} was begun; restore the "
                "data, or start anew in another --run-dir"
            )
        if test is not None:
            self.check_data(test, known["digest"], ", the split to test on")

    def tested(self) -> Mapping[str, Any] | None:
        """What `tested_on` wrote down when the run was begun; None where that is not known."""
        written = self.record.get("test")
        with suppress(CheckpointError):  # all are damaged
            if not isinstance(written, dict) and (found := checkpoint.newest(self.checkpoints)):
                written = found.made_with.get("test")
        return written if isinstance(written, dict) else None

    def _made(self) -> Origin | None:
        """The newest state of the training that is known: of a checkpoint, or of weights that are what they were."""
        written, known = self.record.get("weights"), None
        if isinstance(written, dict) and self.weights.is_file() and written.get("sha256") == sha256(self.weights):
            known = Origin(**{key: written[key] for key in ("step", "recipe_hash", "data", "status")})
        try:
            found = checkpoint.newest(self.checkpoints)
        except CheckpointError:
            if not known:
                raise
            found = None
        if found and (known is None or found.step > known.step):
            return Origin(found.step, found.recipe_hash, found.made_with.get("data", ""))
        return known

    def save(self, method: Method, origin: Origin) -> None:
        """Write the encoder's weights, and those that the method's signatures read, and what they were made from."""
        with replacing(self.weights) as scratch:
            method.encoder.save_weights(scratch)
        entries = {"weights": origin.of(self.weights)}
        if method.signatures():
            save_heads(self.heads, method)
            entries["heads"] = origin.of(self.heads)
        self.note(**entries)

    def holds(self, method: Method, origin: Origin) -> bool:
        """Whether the run has all that `save` would write, made from this state of the training."""
        heads = not method.signatures() or origin.holds(self.heads, self.record.get("heads"))
        return heads and origin.holds(self.weights, self.record.get("weights"))

    def keeps_model(self) -> bool:
        """Whether the run keeps its encoder as a Keras model, of the newest state of its training."""
        made = self._made()
        return made is not None and made.holds(self.model, self.record.get("model"))

    def _keep_model(self, encoder: keras.Model, origin: Origin, source: Source) -> None:
        """Keep the encoder as a Keras model, which needs neither the recipe nor the data. Only a convenience: where it
        cannot be written, a warning says so.
        """
        if origin.holds(self.model, self.record.get("model")):
            return
        try:
            with replacing(self.model) as scratch:
                encoder.save(scratch)
            self.note(model=origin.of(self.model), input=takes(self.recipe, source))
        except Exception as error:  # the disk refuses it, or a layer does not know how to be saved
            warnings.warn(f"{self.model}: not kept: {describe(error)}", stacklevel=2)

    def method(self, source: Source, console: Console | None = None) -> Method:
        """The trained method, as far as its signatures go. Where weights are missing, damaged or older than the
        training, they are made again from the newest checkpoint, and the console is told.

        Raises as `origin` does, and EvaluationError where there are neither weights nor a checkpoint.
        """
        origin = self.origin(source)
        method = build_method(self.recipe, source)
        if not self.holds(method, origin):
            self._restore_weights(origin, source, console)
        self._load_encoder(method, origin, source)
        if method.signatures():
            load_heads(self.heads, method)
        return method

    def encoder(self, source: Source, console: Console | None = None) -> keras.Model:
        """The trained encoder, as `method` gives it; of the other weights none are needed."""
        origin = self.origin(source)
        if not origin.holds(self.weights, self.record.get("weights")):
            self._restore_weights(origin, source, console)
        method = build_method(self.recipe, source)
        self._load_encoder(method, origin, source)
        return method.encoder

    def _load_encoder(self, method: Method, origin: Origin, source: Source) -> None:
        try:
            method.encoder.load_weights(self.weights)
        except Exception as error:  # Keras and h5py raise nearly anything where the layers are others
            raise EvaluationError(
                f"{self.weights}: does not fit the backbone that the recipe builds now: {describe(error)}; install the "
                "plugins that kzoo.json names"
            ) from error
        self._keep_model(method.encoder, origin, source)

    def _restore_weights(self, origin: Origin, source: Source, console: Console | None) -> None:
        found = checkpoint.newest(self.checkpoints)
        if found is None:
            raise EvaluationError(
                f"{self.weights}: missing, damaged or of another training, and no checkpoint is left to make it from; "
                "restore the run from a copy, or start anew"
            )
        with precision(self.recipe):
            method = build_method(self.recipe, source)
            compile_method(method, self.recipe, source)
        found.load(checkpoint.state(method), recipe_hash=origin.recipe_hash)
        remedy = "its weights are missing or damaged, and made again from a checkpoint"
        with disk.writing(self.folder, EvaluationError, remedy):
            self.save(method, origin)
        if console:
            console.print(f"{self.weights}: made again from {found.path}", style="yellow", markup=False)
