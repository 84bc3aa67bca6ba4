"""Text files of one's own, for the recipe name `text:<path>`."""

from dataclasses import replace
from pathlib import Path

from kzoo.data import Source
from kzoo.errors import DataError, printable
from kzoo.folder.census import survey
from kzoo.folder.layout import some
from kzoo_text.corpus import Document, beginning_and_end, corpus_source
from kzoo_text.options import TextFileOptions

_SUFFIX = ".txt"


def text_files(path: str, split: str, options: TextFileOptions) -> Source:
    """Passages of one text file, or of all .txt files below a folder, UTF-8.

    What the sub-folders are, splits or classes, is found as for images (`kzoo.folder.census`); fewer than two classes:
    unlabelled. Where there are no splits, split test is the end of each file, `options.test_fraction` of it.
    Raises DataError: no such file or split, sub-folders that can be read in two ways, files that cannot be read, no
    text or too little of it, or bytes that are no UTF-8.
    """
    title = f"text:{path}"
    root = Path(path).expanduser()
    if not root.exists():
        raise DataError(f"{printable(title)}: no such file or folder")
    if not root.is_dir():
        text = _text(title, {"": _read(root, title, "")})[""]
        return corpus_source(title, _cut(Document(text), options), (), split, options)
    census = survey(title, path, [_SUFFIX], f"{_SUFFIX} file", options.layout)
    if census.broken:
        told = some([f"{name} ({why})" for name, why in sorted(census.broken.items())])
        raise DataError(f"{census.title}: cannot read {told}; repair or remove them")
    names = [file.name for files in census.splits.values() for file in files]
    texts = _text(census.title, {name: _read(root / name, census.title, name) for name in names})
    splits: dict[str, list[Document]] = {}
    for part, files in sorted(census.splits.items()):
        for file, label in zip(files, census.labels(part), strict=True):
            document = Document(texts[file.name], label)
            cut = {part: [document]} if census.layout == "splits" else _cut(document, options)
            for name, documents in cut.items():
                splits.setdefault(name, []).extend(documents)
    split = census.find(split) if census.layout == "splits" else split
    classes = tuple(map(printable, census.classes))
    return replace(corpus_source(census.title, splits, classes, split, options), census=census.as_json())


def _cut(document: Document, options: TextFileOptions) -> dict[str, list[Document]]:
    """The beginning of a document for split train, its end for split test."""
    parts = beginning_and_end(document.text, 1 - options.test_fraction)
    return {name: [replace(document, text=part)] for name, part in zip(("train", "test"), parts, strict=True)}


def _text(title: str, texts: dict[str, str]) -> dict[str, str]:
    if not any(text.strip() for text in texts.values()):
        raise DataError(f"{title}: holds no text")
    return texts


def _read(file: Path, title: str, name: str) -> str:
    where = f"{title}: {printable(name)}" if name else printable(title)
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: byte {error.start} is no UTF-8; convert the file to UTF-8") from None
    except OSError as error:
        raise DataError(f"{where}: {error.strerror}") from None
