"""What the sub-folders of a folder of examples are: splits, classes, or nothing."""

import re
from collections.abc import Iterable, Sequence

from kzoo.errors import DataError, printable

TRAIN, TEST, UNLABELED = "train", "test", "unlabeled"

# What folders of splits are called, capitals aside. A number or letter may follow ("val2017", "trainA"), or what they
# hold ("train_images").
_WORDS = {
    TRAIN: "train|training|trn",
    TEST: "test|testing|tst|hold[-_ ]?out|held[-_ ]?out",
    "val": "val|valid|validation|dev|devel|development|eval|evaluation",
    UNLABELED: "unlabell?ed|unlab|unsup|unsupervised",
    "extra": "extra",
}
_DETAIL = r"([-_ .]?(\d+|[ab]|set|data|images?|imgs?|split))?"
_SPLITS = {kind: re.compile(f"({words}){_DETAIL}", re.IGNORECASE) for kind, words in _WORDS.items()}
_SHOWN = 5  # names in a line


def split_kind(name: str) -> str | None:
    """Which split a folder of this name is: "train" for "Training"; None where the name is that of no split."""
    return next((kind for kind, pattern in _SPLITS.items() if pattern.fullmatch(name)), None)


def find_layout(title: str, what: str, names: Iterable[str]) -> str:
    """ "splits", "classes" or "flat", from the relative paths of the files.

    title: the name in a recipe, "folder:pets". A folder "unlabeled" beside others is no class and no split.
    Raises DataError, with both readings, where there are two.
    """
    folders = {tuple(name.split("/")[:-1]) for name in names}
    tops = {parts[0] for parts in folders if parts}
    below = {top: {parts[1] for parts in folders if len(parts) > 1 and parts[0] == top} for top in tops}
    inner = set().union(*below.values())
    splits = {top for top in tops if split_kind(top)}
    if splits != tops and all(split_kind(top) == UNLABELED for top in splits):
        splits = set()  # the unlabelled lie beside the classes, which then are these
        tops = {top for top in tops if not split_kind(top)}
        below = {top: below[top] for top in tops}
        inner = set().union(*below.values())
    nested = next((top for top in sorted(tops) if _are_splits(below[top])), None)
    told = f"{title}: its sub-folders {some(sorted(tops))} can be read in two ways: "
    if splits and splits != tops:
        raise DataError(
            f"{told}as splits, with {some(sorted(tops - splits))} as splits too, or as {len(tops)} classes; "
            "set data.options.layout to splits or classes"
        )
    if nested is not None:
        chosen, reading = ("splits", "splits with classes in them") if splits else ("classes", "classes")
        raise DataError(
            f"{told}as {reading}, or as folders of splits, for {printable(nested)} holds "
            f"{some(sorted(below[nested]))}; name {title}/{printable(nested)} for those, or set data.options.layout to "
            f"{chosen}"
        )
    if not splits and len(tops) > 1 and len(inner) > 1 and all(below[top] == inner for top in tops):
        raise DataError(
            f"{told}as {len(tops)} classes, or as splits by other names, for each holds {some(sorted(inner))}; set "
            "data.options.layout to classes or splits"
        )
    if len(tops) == 1 and not splits and inner and () not in folders:
        [top] = tops
        raise DataError(
            f"{title}: all its {what}s lie in {printable(top)}, whose sub-folders {some(sorted(inner))} can be read in "
            f"two ways: as classes, then name {title}/{printable(top)}; or as no labels, then set "
            "data.options.layout to flat"
        )
    return "splits" if splits else "classes" if tops else "flat"


def some(names: Sequence[str], shown: int = _SHOWN) -> str:
    """The names, fit to be printed; of many, the first and how many more there are."""
    told = ", ".join(map(printable, names[:shown]))
    return told if len(names) <= shown else f"{told} and {len(names) - shown:,} more"


def _are_splits(names: set[str]) -> bool:
    kinds = {split_kind(name) for name in names}
    return bool(kinds & {TRAIN, TEST}) and None not in kinds
