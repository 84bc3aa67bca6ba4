"""`kzoo embed`: the embedding of every example of a dataset, in a file."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kzoo.data.source import Batch, Source
from kzoo.data.streams import evaluation_batches
from kzoo.distribute import devices
from kzoo.errors import DataError, EmbeddingsError, printable
from kzoo.evaluate.features import Features, embed_all, make_reader
from kzoo.folder.census import image_census
from kzoo.options import FolderOptions, absolute
from kzoo.plugins import registry, targets
from kzoo.runs.kept import Kept
from kzoo.runs.pretrained import find_current, open_kept
from kzoo.system import disk
from kzoo.system.files import locked, read_json, replacing, write_json
from kzoo.use.table import Embeddings, write

Reader = Callable[[tf.Tensor], dict[str, tf.Tensor]]

_BATCH = 256
_SHARD = 4096  # examples after which what is done is kept,
_SECONDS = 30.0  # or seconds


@dataclass(frozen=True)
class Wanted:
    """What to embed: a dataset by its name, the splits of it (none: all that it tells of), and its options."""

    data: str
    splits: tuple[str, ...]
    options: Mapping[str, Any]
    feature: str = "embedding"


def embed_data(place: str | Path, wanted: Wanted, out: Path, console: Console) -> Embeddings:
    """Embed every example and write `out`; see `kzoo.use.table`.

    What is done is kept beside it, in `<out>.parts`, until all is: a call that was killed goes on there, where backbone
    and data are the same.

    Raises BackboneError, PluginError, OptionsError or DataError, and EmbeddingsError where it cannot be written.
    """
    kept = find_current(place)
    strategy = devices.make_strategy("auto", None, _BATCH)
    with strategy.scope():
        model = open_kept(kept)
    key = model.inputs[0].name
    size = _side(model, kept)
    sources = _open(wanted, model, size)
    for source in sources.values():
        _check(source, kept, key)
    facts = {
        "backbone": kept.title,
        "made_from": kept.made_from,
        "feature": wanted.feature,
        "data": _absolute(wanted.data),
        "options": dict(wanted.options),
        "splits": {split: source.digest or source.size for split, source in sources.items()},
    }
    with disk.writing(out, EmbeddingsError):
        parts = out.with_name(f"{out.name}.parts")
        parts.mkdir(parents=True, exist_ok=True)
        with locked(parts) as alone:
            if not alone:
                raise EmbeddingsError(f"{parts}: another kzoo embed is at work; wait, or choose another --out")
            read = on_all(strategy, make_reader(model, (wanted.feature,)))
            found = _all(parts, facts, sources, model, size, wanted.feature, read, console)
            write(out, found)
        shutil.rmtree(parts)
    return found


def on_all(strategy: tf.distribute.Strategy, read: Reader) -> Reader:
    """Read a batch in parts, one on each device of the strategy. Short parts are padded."""
    count = strategy.num_replicas_in_sync
    if count == 1:
        return read

    def mine(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        rows, place = tf.shape(inputs)[0] // count, tf.distribute.get_replica_context().replica_id_in_sync_group
        return read(tf.reshape(inputs, [count, rows, *inputs.shape[1:]])[place])

    @tf.function(autograph=False)
    def together(inputs: tf.Tensor) -> Any:
        return strategy.run(mine, (inputs,))

    def on_each(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        padded = tf.pad(inputs, [[0, -len(inputs) % count], *([0, 0] for _ in inputs.shape[1:])])
        found = together(padded)
        return {
            name: tf.concat(strategy.experimental_local_results(value), 0)[: len(inputs)]
            for name, value in found.items()
        }

    return on_each


def _all(
    parts: Path,
    facts: dict[str, Any],
    sources: dict[str, Source],
    model: keras.Model,
    size: int | None,
    feature: str,
    read: Reader,
    console: Console,
) -> Embeddings:
    mark = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    if read_json(parts / "parts.json").get("of") != mark:
        for old in parts.iterdir():
            old.unlink()
        write_json(parts / "parts.json", {"of": mark})
    rows = {}
    total = sum(source.size for source in sources.values())
    columns = (TextColumn("embedding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("embedding", total=total)
        for number, (split, source) in enumerate(sources.items()):
            done = _kept_parts(parts, number)
            if done:
                bar.update(task, advance=sum(map(len, done)))
                console.print(f"{sum(map(len, done)):,} of {source.size:,} are done already: {parts}", markup=False)
            left = np.setdiff1d(np.arange(source.size), np.concatenate([one.ids for one in done] or [np.zeros(0, int)]))
            batches = evaluation_batches(source, _BATCH, size, left, key=model.inputs[0].name) if len(left) else ()
            for shard in _shards(_channels(batches, model)):
                one = embed_all(model, shard, (feature,), read=read)[feature]
                with replacing(parts / f"{number}-{one.ids[0]:012d}.npz") as scratch, scratch.open("wb") as file:
                    np.savez(file, features=one.features, labels=one.labels, ids=one.ids)
                done.append(one)
                bar.update(task, advance=len(one))
            rows[split] = _joined(done)
            if len(rows[split]) != source.size:
                raise DataError(f"{source.name}: gave {len(rows[split]):,} of its {source.size:,} examples")
    return _named(rows, sources, facts)


def _named(rows: dict[str, Features], sources: dict[str, Source], facts: dict[str, Any]) -> Embeddings:
    names, splits, labels = [], [], []
    for split, found in rows.items():
        source = sources[split]
        names += [printable(source.names[number]) if source.names else str(number) for number in found.ids]
        labels += [source.classes[label] if label >= 0 else "" for label in found.labels]
        splits += [split] * len(found)
    return Embeddings(names, splits, labels, np.concatenate([found.features for found in rows.values()]), facts)


def _kept_parts(parts: Path, number: int) -> list[Features]:
    """What a call before this one has done; a part that is damaged is made again."""
    found = []
    for path in sorted(parts.glob(f"{number}-*.npz")):
        try:
            with np.load(path, allow_pickle=False) as file:
                found.append(Features(file["features"], file["labels"], file["ids"]))
        except Exception:  # numpy and zipfile raise nearly anything where a byte is another
            path.unlink()
    return found


def _shards(batches: Any) -> Iterator[list[Batch]]:
    """Batches, as many together as are kept at once."""
    shard: list[Batch] = []
    began = time.monotonic()
    for batch in batches:
        shard.append(batch)
        if len(shard) * _BATCH >= _SHARD or time.monotonic() - began > _SECONDS:
            yield shard
            shard, began = [], time.monotonic()
    if shard:
        yield shard


def _joined(done: list[Features]) -> Features:
    """All of a split, by id."""
    whole = Features(*(np.concatenate([getattr(one, key) for one in done]) for key in ("features", "labels", "ids")))
    return whole.take(np.argsort(whole.ids, kind="stable"))


def _channels(batches: Any, model: keras.Model) -> Iterator[Batch]:
    """Grey images for a backbone that takes colour, and the reverse."""
    wanted = model.input_shape[-1]
    for batch in batches:
        image = batch.get("image")
        if image is not None and image.shape[-1] == 1 and wanted == 3:
            batch = {**batch, "image": tf.image.grayscale_to_rgb(image)}
        elif image is not None and image.shape[-1] == 3 and wanted == 1:
            batch = {**batch, "image": tf.image.rgb_to_grayscale(image)}
        yield batch


def _side(model: keras.Model, kept: Kept) -> int | None:
    """The side of the images that the backbone takes; where it takes any, of those it was trained on."""
    shape = model.input_shape
    if len(shape) != 4:
        return None
    height, width = shape[1:3] if shape[1] else kept.input.get("shape", shape[1:])[:2]
    if height is None or height != width:
        raise EmbeddingsError(f"{kept.place}: takes images of {height} x {width} pixels; kzoo embed makes squares only")
    return int(height)


def _open(wanted: Wanted, model: keras.Model, size: int | None) -> dict[str, Source]:
    """The splits; a folder's files are brought to the backbone's size."""
    prefix, _, path = wanted.data.partition(":")
    options, splits = dict(wanted.options), wanted.splits
    if prefix == "folder":
        options.setdefault("size", size)
        splits = splits or tuple(image_census(path, FolderOptions.model_validate(options)).splits)
    splits = splits or registry.find_dataset(wanted.data).splits or ("train",)
    return {split: targets.open_dataset(wanted.data, split, **options) for split in splits}


def _check(source: Source, kept: Kept, key: str) -> None:
    """Raise DataError where the examples are not of the kind that the backbone takes."""
    takes = targets.modality_taking(key)
    if targets.modality(source.modality).key != takes.key:
        raise DataError(f"{source.name}: holds {source.modality}; the backbone of {kept.place} takes '{key}'")
    known = kept.input.get("vocabulary")
    if source.vocabulary and known != list(source.vocabulary):
        raise DataError(
            f"{source.name}: its words are numbered otherwise than in the text that the backbone of {kept.place} was "
            "trained on; embed that text, or train on this one"
        )


def _absolute(name: str) -> str:
    prefix, colon, path = name.partition(":")
    return f"{prefix}:{absolute(path)}" if colon and registry.find_dataset(name).path else name
