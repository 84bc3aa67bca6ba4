"""Small pieces of Markdown."""

import re
from collections.abc import Sequence
from typing import Any


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; "" without rows. Columns that are empty in every row are left out."""
    kept = [place for place in range(len(head)) if any(row[place] for row in rows)]
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells[place] for place in kept)} |" for cells in lines) if kept else ""


def page(*parts: str) -> str:
    """Paragraphs, headings and tables below each other; empty ones are left out."""
    return "\n\n".join(part for part in parts if part) + "\n"


def paragraph(text: str) -> str:
    """The first paragraph of a docstring, in one line."""
    return " ".join(text.partition("\n\n")[0].split())


def prose(text: str) -> str:
    """A docstring's text as Markdown: what stands outside of `code` is neither HTML nor emphasis."""
    parts = re.split(r"(`[^`]*`)", text)
    escaped = (re.sub(r"([*\[\]])", r"\\\1", part.replace("<", "&lt;").replace(" -> ", " → ")) for part in parts)
    return "".join(part if part.startswith("`") else safe for part, safe in zip(parts, escaped, strict=True))


def plain(value: Any) -> str:
    """A value in words: lists with commas."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def linked_papers(text: str) -> str:
    """A reference, its arXiv number a link."""
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


def anchor(heading: str) -> str:
    """The anchor that the site gives a heading."""
    cleaned = re.sub(r"[^\w\s-]", "", heading).strip().lower()
    return re.sub(r"[-\s]+", "-", cleaned)
