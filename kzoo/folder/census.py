"""What lies in a folder of examples: which files are used, in which split and class, and which are not, and why.

It is read from names and links alone: no file is opened, and nothing here imports TensorFlow.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from kzoo.errors import DataError, NoSplit, printable
from kzoo.folder.layout import TEST, TRAIN, UNLABELED, find_layout, some, split_kind
from kzoo.folder.walk import OUTSIDE, File, once, walk
from kzoo.options import FolderOptions

_LISTED = 10  # classes or reasons in a line


@dataclass(frozen=True)
class Census:
    """What lies in a folder.

    title: how a recipe names it. folder: its absolute path. what: what one file is, "image".
    layout: "splits" (the first sub-folders are splits, the labels lie one level below), "classes" or "flat".
    splits: the files of each, sorted by name. folders: the sub-folder of each split that has one.
    left_out: how many files are not used, by reason. broken: those that should be and cannot, each with its reason.
    share: of each class that kzoo itself held out as split test; None: the splits are the folder's own.
    """

    title: str
    folder: Path
    what: str
    layout: str
    splits: Mapping[str, tuple[File, ...]]
    folders: Mapping[str, str]
    left_out: Mapping[str, int]
    broken: Mapping[str, str]
    share: float | None = None

    @property
    def used(self) -> int:
        return sum(map(len, self.splits.values()))

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The classes of all splits, sorted; () where there are fewer than two: then nothing is labelled."""
        names = sorted({file.label for files in self.splits.values() for file in files if file.label is not None})
        return tuple(names) if len(names) > 1 else ()

    def labels(self, split: str) -> list[int]:
        """The number of each file's class; -1 = unlabelled."""
        numbers: dict[str | None, int] = {name: number for number, name in enumerate(self.classes)}
        return [numbers.get(file.label, -1) for file in self.splits[split]]

    def find(self, name: str) -> str:
        """The split that a name means: "validation" is that of a folder "val" too. Raises NoSplit."""
        if name in self.splits:
            return name
        alike = [split for split in self.splits if self.folders.get(split, split).lower() == name.lower()]
        alike = alike or [split for split in self.splits if split_kind(name) and split_kind(split) == split_kind(name)]
        if len(alike) != 1:
            known = some(sorted(self.splits), len(self.splits))
            raise NoSplit(f"{self.title}: no split '{printable(name)}'; it has {known}")
        return alike[0]

    def hold_out(self, share: float) -> "Census":
        """With a share of each class as split test, where the folder has no splits of its own. What has no label, where
        others have one, stays in train: it could test nothing.

        Of each class those with the lowest hashes of their names, as many as the rounded share, and never all. So the
        same files give the same splits anywhere, and a file that is added moves at most one other. Where that is none
        at all, there is no split test.
        """
        if self.layout == "splits":
            return self
        groups: dict[str | None, list[str]] = {}
        for file in self.splits[TRAIN]:
            if not self.classes or file.label is not None:
                groups.setdefault(file.label if self.classes else None, []).append(file.name)
        held: set[str] = set()
        for names in groups.values():
            held.update(sorted(names, key=hash_share)[: min(int(len(names) * share + 0.5), len(names) - 1)])
        if not held:
            return replace(self, share=share)
        train, test = (
            tuple(file for file in self.splits[TRAIN] if (file.name in held) == wanted) for wanted in (False, True)
        )
        return replace(self, splits={TRAIN: train, TEST: test}, share=share)

    def without(self, broken: Mapping[str, str]) -> "Census":
        """With further files that cannot be used."""
        splits = {
            split: tuple(file for file in files if file.name not in broken) for split, files in self.splits.items()
        }
        return replace(self, splits=splits, broken={**self.broken, **broken})

    def as_json(self) -> dict[str, Any]:
        """All of it as plain JSON; names as they are printed."""
        splits = {}
        for split, files in self.splits.items():
            counts = Counter(file.label for file in files)
            labelled = {printable(name): counts[name] for name in self.classes}
            splits[printable(split)] = {
                "folder": printable(self.folders[split]) if split in self.folders else None,
                "files": len(files),
                "classes": labelled,
                "unlabelled": len(files) - sum(labelled.values()),
            }
        return {
            "folder": printable(str(self.folder)),
            "layout": self.layout,
            "seen": self.used + len(self.broken) + sum(self.left_out.values()),
            "used": self.used,
            "classes": [printable(name) for name in self.classes],
            "splits": splits,
            "held_out_share": self.share,
            "left_out": dict(self.left_out),
            "broken": {printable(name): printable(why) for name, why in sorted(self.broken.items())},
            "notes": list(self._notes()),
        }

    def _notes(self) -> Iterator[str]:
        """What a reader would not expect."""
        if not self.classes:
            yield "no labels: " + ("layout is flat" if self.layout == "flat" else "there are fewer than two classes")
        if len(self.splits) == 1 and self.share:
            yield f"nothing is held out: {self.share:.0%} of each class is no {self.what}"
        train = self.splits.get(TRAIN, ())
        for split, files in self.splits.items():
            if split in (TRAIN, UNLABELED) or not train:
                continue
            strange = {file.label for file in files} - {file.label for file in train}
            if self.classes and (names := sorted(name for name in strange if name is not None)):
                yield f"classes of {printable(split)} that train lacks: {some(names)}"
            own = {file.identity for file in train}
            if both := sum(file.shared > 0 and file.identity in own for file in files):
                yield f"{both:,} of {printable(split)} are in train too, by links"


def image_census(path: str, options: FolderOptions) -> Census:
    """What `folder:<path>` holds, by the names of its files alone.

    Raises DataError: no such folder, no image in it, or sub-folders that can be read in two ways.
    """
    from kzoo.folder.images import suffixes  # brings NumPy and Pillow, which a census of text need not

    return survey(f"folder:{path}", path, suffixes(), "image", options.layout).hold_out(options.test_fraction)


def survey(title: str, path: str, suffixes: Iterable[str], what: str, layout: str = "auto") -> Census:
    """A census of the files below a folder that end in one of the suffixes (lower case, with the dot).

    Links are followed; a folder or file that a split has already is left out. Names that begin with a dot are hidden.
    layout: "auto", or as in `Census`. Raises DataError: no such folder, no such file, or sub-folders that can be read
    in two ways.
    """
    title, root = printable(title), Path(path).expanduser().resolve()
    if not root.is_dir():
        raise DataError(f"{title}: no such folder")
    left_out: Counter[str] = Counter()
    broken: dict[str, str] = {}
    files = list(walk(root, frozenset(suffixes), left_out, broken))
    if not files:
        raise DataError(
            f"{title}: holds no {what}; left out: {_counted(left_out) or 'nothing, it is empty'}"
            + (f"; broken: {some(sorted(broken))}" if broken else "")
        )
    if layout == "auto":
        layout = find_layout(title, what, (file.name for file in files))
    members: dict[str, list[File]] = {}
    for file in files:
        first, *rest = file.name.split("/")
        if layout != "splits":
            of_class = layout == "classes" and rest and split_kind(first) != UNLABELED
            members.setdefault(TRAIN, []).append(replace(file, label=first if of_class else None))
        elif rest:
            labelled = len(rest) > 1 and split_kind(first) != UNLABELED
            members.setdefault(first, []).append(replace(file, label=rest[0] if labelled else None))
        else:
            left_out[OUTSIDE] += 1
    names = _split_names(sorted(members)) if layout == "splits" else {TRAIN: TRAIN}
    return Census(
        title=title,
        folder=root,
        what=what,
        layout=layout,
        splits={name: once(members[top], left_out) for top, name in names.items()},
        folders={name: top for top, name in names.items()} if layout == "splits" else {},
        left_out=dict(sorted(left_out.items())),
        broken=broken,
    )


def hash_share(name: str) -> float:
    """A number in [0, 1) that a file's name alone decides."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


def census_lines(census: Mapping[str, Any]) -> list[str]:
    """A census (`Census.as_json`, and what `kzoo.folder.source` adds of the images) as a few lines to print."""
    lines = [f"{census['folder']}: {census['used']:,} of {census['seen']:,} files are used"]
    for split, part in census["splits"].items():
        lines.append(f"  {split}: {part['files']:,}{_classes(part)}{_origin(census, split, part)}")
    if images := census.get("images"):
        height, width, channels = images["shape"]
        sizes = f", from {images['sizes']:,} sizes" if images["sizes"] > 1 else ""
        modes = ", ".join(f"{mode} {count:,}" for mode, count in images["modes"].items())
        lines.append(f"  images: {height} x {width} pixels{sizes}, {'grey' if channels == 1 else 'colour'} ({modes})")
        if images["bits"]:
            white = 2 ** images["bits"] - 1
            lines.append(f"  depth: grey values wider than 8 bits use {images['bits']} bits: {white:,} is white")
        if images["several"]:
            lines.append(f"  {images['several']:,} files hold several images; the first is used")
    if census["left_out"]:
        lines.append(f"  left out: {_counted(census['left_out'])}")
    if census["broken"]:
        told = [f"{name} ({why})" for name, why in census["broken"].items()]
        lines.append(f"  broken, {len(told):,}: {some(told)}")
    return lines + [f"  {note}" for note in census["notes"]]


def _split_names(folders: list[str]) -> dict[str, str]:
    """Of each folder of a split, the split's name: its kind, where no other is of that kind."""
    kinds = Counter(map(split_kind, folders))
    return {folder: kind if (kind := split_kind(folder)) and kinds[kind] == 1 else folder for folder in folders}


def _counted(counts: Mapping[str, int]) -> str:
    """ "12 .txt, 1 hidden"."""
    listed = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return some([f"{count:,} {reason}" for reason, count in listed], _LISTED)


def _classes(part: Mapping[str, Any]) -> str:
    counts = part["classes"]
    if not counts:
        return ""
    if part["unlabelled"] == part["files"]:
        return ", unlabelled"
    unlabelled = f", {part['unlabelled']:,} unlabelled" if part["unlabelled"] else ""
    if len(counts) > _LISTED:
        return f", {len(counts):,} classes of {min(counts.values()):,} to {max(counts.values()):,}{unlabelled}"
    return ": " + ", ".join(f"{name} {count:,}" for name, count in counts.items()) + unlabelled


def _origin(census: Mapping[str, Any], split: str, part: Mapping[str, Any]) -> str:
    if part["folder"] not in (None, split):
        return f" (folder {part['folder']})"
    if split == TEST and census["held_out_share"]:
        whole = "each class" if census["classes"] else "all"
        return f" ({census['held_out_share']:.0%} of {whole}, held out by kzoo by a hash of the names)"
    return ""
