"""The Python language reference by topic, which the standard library carries for `help()`.

Small, some 60,000 words, but real, and wherever Python is. Topics quote each other at length; each paragraph is kept
once, or passages to test on would have been trained on.
"""

import re
from pydoc_data.topics import topics

from kzoo.data import Source
from kzoo_text.corpus import Document, beginning_and_end, corpus_source
from kzoo_text.options import PassageOptions

_CLASSES = 12
_TRAIN_SHARE = 0.8
_RULE = re.compile(r"[\s*=~^+|#\"-]*")  # a line under a heading, or between the rows of a table
_EMPHASIS = re.compile(r"(?<![\w*])(\*{1,2})(?=\S)([^*\n]+)(?<=\S)\1(?![\w*])")  # of a word, or more; not *args
_CODE = re.compile(r"::=|>>>|'|=|\bprint\(")  # a paragraph where quotes are code or grammar, not marks of a name
_QUOTED = 40  # characters from which a paragraph that comes again is a quotation, not a phrase


def python_docs(split: str, options: PassageOptions) -> Source:
    """Passages of the language reference of the Python that runs this: the first 80 % of each topic train, the rest
    test. The label is the topic, for the twelve that have most text; the passages of all others are unlabelled.
    """
    texts = documents()
    longest = sorted(sorted(texts, key=lambda topic: (-len(texts[topic]), topic))[:_CLASSES])
    label = {topic: number for number, topic in enumerate(longest)}
    train, test = [], []
    for topic, text in texts.items():
        first, rest = beginning_and_end(text, _TRAIN_SHARE)
        train.append(Document(first, label.get(topic, -1)))
        test.append(Document(rest, label.get(topic, -1)))
    return corpus_source("python_docs", {"train": train, "test": test}, longest, split, options)


def documents() -> dict[str, str]:
    """The text of each topic, without rules and frames, and without what it has in common with a shorter one."""
    seen: set[str] = set()
    kept = {}
    for topic in sorted(topics, key=lambda topic: (len(topics[topic]), topic)):
        own = []
        for paragraph in re.split(r"\n\s*\n", plain(topics[topic])):
            words = " ".join(paragraph.split())
            if words in seen:
                continue
            if len(words) >= _QUOTED:
                seen.add(words)
            own.append(paragraph if _CODE.search(paragraph) else paragraph.replace('"', ""))
        kept[topic] = "\n\n".join(own)
    return {topic: kept[topic] for topic in sorted(kept)}


def plain(text: str) -> str:
    """The text without rules under headings, frames of tables and stars of emphasis; words, code and grammar stay."""
    lines = []
    for line in text.splitlines():
        if not line.strip():
            lines.append("")
        elif not _RULE.fullmatch(line):
            bare = line.strip()
            framed = bare.startswith("|") and bare.endswith("|")
            lines.append(" ".join(bare.strip("|").split("|")) if framed else line)
    return _EMPHASIS.sub(r"\2", "\n".join(lines))
