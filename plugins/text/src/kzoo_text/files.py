"""Text files of one's own, for the recipe name `text:<path>`."""

import os
from collections.abc import Iterator
from pathlib import Path

from kzoo.data import Source
from kzoo.errors import DataError
from kzoo_text.corpus import Document, beginning_and_end, corpus_source
from kzoo_text.options import TextFileOptions

_SUFFIX = ".txt"
_SPLITS = frozenset({"train", "test", "val", "valid", "validation"})


def text_files(path: str, split: str, options: TextFileOptions) -> Source:
    """Passages of one text file, or of all .txt files below a folder, UTF-8.

    The first level of sub-folders gives the labels; fewer than two: unlabelled. Where the sub-folders are train and
    test (or val, valid, validation), they are the splits, and the labels lie one level below; else split test is the
    end of each file, `options.test_fraction` of it. Raises DataError: no such file or split, no text or too little of
    it, or bytes that are no UTF-8.
    """
    title = f"text:{path}"
    root = Path(path).expanduser()
    if not root.exists():
        raise DataError(f"{title}: no such file or folder")
    names = sorted(_names(root)) if root.is_dir() else [""]
    if not names:
        raise DataError(f"{title}: holds no file that ends in {_SUFFIX}")
    texts = {name: _read(root / name, title, name) for name in names}
    if not any(text.strip() for text in texts.values()):
        raise DataError(f"{title}: holds no text")
    tops = {name.split("/")[0] for name in names if "/" in name}
    own_splits = "train" in tops and tops <= _SPLITS
    depth = 1 if own_splits else 0
    folders = {name: parts[depth] for name in names if len(parts := name.split("/")) > depth + 1}
    classes = sorted(set(folders.values()))
    labels = {name: classes.index(folder) for name, folder in folders.items()} if len(classes) > 1 else {}
    splits: dict[str, list[Document]] = {top: [] for top in sorted(tops)} if own_splits else {"train": [], "test": []}
    for name, text in texts.items():
        label = labels.get(name, -1)
        if not own_splits:
            for part, document in zip(splits, beginning_and_end(text, 1 - options.test_fraction), strict=True):
                splits[part].append(Document(document, label))
        elif "/" in name:
            splits[name.split("/")[0]].append(Document(text, label))
    return corpus_source(title, splits, classes if labels else (), split, options)


def _names(root: Path) -> Iterator[str]:
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and name.lower().endswith(_SUFFIX):
                yield (Path(folder) / name).relative_to(root).as_posix()


def _read(file: Path, title: str, name: str) -> str:
    where = f"{title}: {name}" if name else title
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: byte {error.start} is no UTF-8; convert the file to UTF-8") from None
    except OSError as error:
        raise DataError(f"{where}: {error.strerror}") from None
