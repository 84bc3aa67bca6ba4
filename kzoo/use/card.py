"""The card of a preset, in Markdown: what it is, how to use it, what it is worth, and what it came from."""

import json
from collections.abc import Mapping
from typing import Any

from kzoo.evaluate.worth import markdown_table, worth
from kzoo.plugins import describe, registry


def card(facts: Mapping[str, Any]) -> str:
    """facts: the record of the preset, see `kzoo.PresetSpec`, with "data_options", "examples" and
    "made_with".
    """
    name, shape = facts["name"], " x ".join(map(str, facts["input_shape"]))
    text = facts["modality"] == "text"
    takes = (
        f"int32 tokens `[B, {facts['input_shape'][0]}]`" if text else f"float {facts['modality']}s in [0, 1], {shape}"
    )
    width = facts["figures"]["trained"]["embedding"]["width"]
    options = describe.changed_options(registry.find_backbone(facts["backbone"]).options, facts["backbone_options"])
    chosen = f", options: {json.dumps(options)}" if options else ""
    made_with = ", ".join(f"{one} {version}" for one, version in facts["made_with"].items())
    parts = [
        f"# {name}",
        f"A trained backbone for [kzoo](https://pypi.org/project/kzoo/), an ordinary Keras model: {facts['summary']}.",
        f'```python\nimport kzoo\n\nbackbone = kzoo.load_backbone("{name}")\n'
        f'embedding = backbone(inputs)["embedding"]  # from {takes}, to [B, {width}]\n```',
        f"```bash\nkzoo embed {name} {_example(facts)} --out embeddings.npz\nkzoo show {name}\nkzoo check {name}\n```",
        "A recipe begins with it:",
        f"```yaml\nbackbone: {{name: {facts['backbone']}{chosen}}}\ninit_from: {name}\n```",
        "## What it is worth",
        worth(facts["figures"]),
        "## What it is",
        markdown_table(
            ("", ""),
            [
                (
                    "backbone",
                    f"`{facts['backbone']}`" + "".join(f", `{key}: {json.dumps(options[key])}`" for key in options),
                ),
                ("input", f"{takes}"),
                ("embedding", f"{width} numbers"),
                ("method", f"`{facts['method']}`"),
                ("trained on", f"`{facts['data']}`, {facts['examples']:,} examples"),
                ("licence of the data", facts["data_licence"] or "not known"),
                ("licence of the weights", facts["licence"] or "none is given"),
                ("weights", f"`backbone.keras`, {facts['size']:,} bytes, SHA-256 `{facts['sha256']}`"),
                ("made with", made_with),
            ],
        ),
        "`recipe.yaml` has every setting: `kzoo train recipe.yaml` trains it again. `answers.npz` has inputs, made of "
        f"random numbers, and their embeddings: `kzoo check {name}` compares them with what it returns here.",
    ]
    return "\n\n".join(parts) + "\n"


def _example(facts: Mapping[str, Any]) -> str:
    """Data that it can embed: those it was trained on, as they were, or a folder of one's own."""
    if ":" in facts["data"] and facts["modality"] == "image":
        return "folder:photos"
    return " ".join([facts["data"], *(f"--set {key}={value}" for key, value in facts["data_options"].items())])
