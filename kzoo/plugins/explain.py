"""What to say of a wrong key or value: one line, with the nearest word that is known."""

import json
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from kzoo.options import place

_OBJECT = "should be a section, `key: value`"


def complaints(error: ValidationError) -> list[Any]:
    """Pydantic's complaints about a model, without those that only follow from others: it counts what is left of a list
    after the wrong items are gone.
    """
    items = error.errors(include_url=False)
    return [
        item
        for item in items
        if item["type"] != "too_short"
        or not any(other["loc"][:-1] == item["loc"] for other in items if other is not item)
    ]


def explain(item: Any, model: type) -> str:
    """One of pydantic's complaints about a model, as one line.

    An unknown key comes with the nearest known one, a wrong value with what was received, written as in a recipe.
    """
    if item["type"] == "extra_forbidden":
        known = _keys_at(model, place(item)[:-1])
        return "unknown key" + (suggest(str(item["loc"][-1]), known) or f"; known: {', '.join(known) or 'none'}")
    if item["type"] == "missing":
        return "missing"
    if item["type"] == "value_error":
        return item["msg"].removeprefix("Value error, ")
    message = _OBJECT if item["type"] in ("model_type", "dict_type") else item["msg"].removeprefix("Input ")
    received = json.dumps(item["input"], default=str)
    return f"{message}; received {received if len(received) <= 60 else received[:57] + '...'}"


def suggest(word: str, known: list[str], most: int = 1) -> str:
    """ "; did you mean 'x'?" where a known word is near, else "". most: how many are named: "'x', 'y' or 'z'"."""
    near = get_close_matches(word, known, n=most)
    if most > 1 and len(word) > 2:  # "vit" is not near "vit_tiny" by its letters, and is meant
        near = near or [other for other in known if other.rpartition("/")[2].startswith(word)][:most]
    *others, last = [f"'{name}'" for name in near] or [""]
    return f"; did you mean {', '.join(others)}{' or ' * bool(others)}{last}?" if last else ""


def _keys_at(model: Any, path: tuple[Any, ...]) -> list[str]:
    """The keys a model knows at a path of its own fields; [] where the path leads out of its fields."""
    for part in path:
        field = getattr(model, "model_fields", {}).get(part)
        # `Section | None` is as good as Section: its keys are what the user may have meant
        candidates = getattr(field.annotation, "__args__", (field.annotation,)) if field else ()
        model = next((candidate for candidate in candidates if hasattr(candidate, "model_fields")), None)
    return list(getattr(model, "model_fields", {}))
