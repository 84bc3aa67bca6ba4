"""`kzoo show` of a preset: what it is, where its weights are, and its figures beside the untrained backbone."""

import json

from rich.console import Console
from rich.markup import escape

from kzoo.errors import PluginError
from kzoo.plugins import describe, registry
from kzoo.specs import PresetSpec


def print_preset(console: Console, spec: PresetSpec) -> None:
    """Print all there is to know about it."""
    from kzoo.evaluate.tables import table

    plugin = registry.provider(spec)
    try:
        known = registry.find_backbone(spec.backbone).options
        options = describe.changed_options(known, spec.backbone_options)
    except PluginError:  # its plugin is missing; all the rest can be said
        options = dict(spec.backbone_options)
    rows = {
        "backbone": ", ".join([spec.backbone, *(f"{key} {json.dumps(value)}" for key, value in options.items())]),
        "input": f"{spec.modality}, {' x '.join(map(str, spec.input_shape))}",
        "method": spec.method,
        "trained on": spec.data,
        "licence of the data": spec.data_licence or "not known",
        "weights": spec.weights + (f", {spec.size / 1e6:.1f} MB" if spec.size else ""),
        "SHA-256": spec.sha256,
        "licence": spec.licence or "none is given",
        "recipe": spec.recipe,
        "plugin": f"{plugin.name} ({plugin.distribution} {plugin.version})" if plugin else "",
    }
    console.print(f"[bold]{escape(spec.name)}[/], a preset: {escape(spec.summary)}")
    grid = describe.plain_table()
    for key, value in rows.items():
        if value:
            grid.add_row(f"[dim]{key}[/]", escape(value))
    console.print(grid)
    if spec.figures:
        console.print()
        console.print(table(spec.figures))
    if console.is_terminal:
        console.print(f"\nto use it: kzoo embed {escape(spec.name)} folder:PATH --out embeddings.npz", soft_wrap=True)
