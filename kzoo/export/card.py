"""The model card of an export, `README.md`: made from what its contract says. What is not known is left out."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kzoo.evaluate.worth import markdown_table, worth


def render(contract: Mapping[str, Any], pictures: Sequence[str] = ()) -> str:
    """The card, Markdown.

    contract: see `kzoo.export.saved_model.export_backbone`. pictures: paths within the export.
    """
    parts = [_heading(contract), _origin(contract), _worth(contract), _pictures(pictures), _formats(contract)]
    parts += [_calling(contract), _proof(contract)]
    return "\n\n".join("\n".join(lines) for part in parts if (lines := list(part))) + "\n"


def _heading(contract: Mapping[str, Any]) -> Iterator[str]:
    yield f"# {contract['name']}"
    yield ""
    about = contract.get("method") or {}
    yield (
        f"An encoder. It takes {_takes(contract)}, and gives each example an embedding of "
        f"{contract['embedding_width']} numbers: like examples are near each other."
    )
    if about:
        yield (
            f"It learnt without labels, by the method `{about['name']}`"
            + (f" ({about['summary']}; {about['paper']})." if about.get("paper") else ".")
            if not about.get("labels")
            else f"It was trained by the method `{about['name']}`, which learns from labels."
        )


def _takes(contract: Mapping[str, Any]) -> str:
    """What it is called on: "`image`, uint8 [N, 32, 32, 3]"."""
    [(name, facts)] = contract["signatures"]["serving_default"]["inputs"].items()
    shape = ", ".join("N" if side is None else str(side) for side in facts["shape"])
    return f"`{name}`, {facts['type']} [{shape}]"


def _origin(contract: Mapping[str, Any]) -> Iterator[str]:
    data, recipe = contract.get("trained_on") or {}, contract.get("recipe") or {}
    rows = {
        "trained on": data.get("dataset"),
        "split": data.get("split"),
        "examples": f"{data['examples']:,}" if data.get("examples") else None,
        "where the data come from": data.get("source"),
        "licence of the data": data.get("licence"),
        "backbone": recipe.get("backbone", {}).get("name") if isinstance(recipe, dict) else None,
        "parameters": f"{contract['parameters']:,}" if contract.get("parameters") else None,
        "steps": f"{contract['made_from']['step']:,}" if contract.get("made_from") else None,
        "written by": ", ".join(f"{name} {version}" for name, version in contract.get("versions", {}).items()),
    }
    if known := [(key, value) for key, value in rows.items() if value]:
        yield from ("## Where it comes from", "", markdown_table(("", ""), known))
    if isinstance(recipe, dict) and recipe:
        yield from ("", "The whole recipe, with every option, is in `contract.json` under `recipe`.")


def _worth(contract: Mapping[str, Any]) -> Iterator[str]:
    report = contract.get("evaluation") or {}
    if report.get("verdict"):
        yield from ("## What it is worth", "", worth(report))


def _pictures(pictures: Sequence[str]) -> Iterator[str]:
    for path in pictures:
        yield f"![{path.rpartition('/')[2].partition('.')[0]}]({path})"


def _formats(contract: Mapping[str, Any]) -> Iterator[str]:
    yield from ("## Formats", "", "| format | file | read by | largest relative error |", "| --- | --- | --- | ---: |")
    for name, found in contract["formats"].items():
        if "refused" not in found:
            yield f"| `{name}` | `{found['file']}` | {found['runtime']} | {found['largest_error']:.1e} |"
    refused = {name: found["refused"] for name, found in contract["formats"].items() if "refused" in found}
    if refused:
        yield from ("", "What is not available:", "", *(f"- `{name}`: {why}" for name, why in refused.items()))


def _calling(contract: Mapping[str, Any]) -> Iterator[str]:
    [key], name = contract["recorded"]["inputs"], contract["name"]
    written = [key for key, found in contract["formats"].items() if "refused" not in found]
    lines_of = {known: lines for known, lines in _python(key).items() if known in written}
    if lines_of:
        yield from ("## How to call it", "", f"In Python, from this folder, with {_takes(contract)}:", "")
    for lines in lines_of.values():
        yield from ("```python", *lines, "```", "")
    if "serve_bytes" in contract["signatures"] and "saved_model" in written:
        yield "Over HTTP, a JPEG or PNG file of any size, once `kzoo serve` or TensorFlow Serving serves it:"
        yield ""
        begin = """(printf '{"signature_name": "serve_bytes", "instances": [{"b64": "'"""
        yield from ("```bash", f"""{begin}; base64 -w0 photo.jpg; printf '"}}]}}') |""")
        yield from (f"  curl -d @- http://127.0.0.1:8501/v1/models/{name}:predict", "```", "")
    yield from ("To train on, or to embed whole folders:", "")
    yield from ("```python", "import kzoo", 'model = kzoo.load_backbone(".")', "```")


def _python(key: str) -> dict[str, tuple[str, ...]]:
    """Three lines of Python for each format."""
    return {
        "saved_model": (
            "import tensorflow as tf",
            'serve = tf.saved_model.load(".").signatures["serving_default"]',
            f'embedding = serve({key}=tf.constant({key}))["embedding"]',
        ),
        "litert": (
            "from ai_edge_litert.interpreter import Interpreter",
            'interpreter = Interpreter("model.tflite")',
            f'embedding = interpreter.get_signature_runner()({key}={key})["embedding"]',
        ),
        "onnx": (
            "import onnxruntime",
            'session = onnxruntime.InferenceSession("model.onnx")',
            f'[embedding] = session.run(["embedding"], {{"{key}": {key}}})',
        ),
        "openvino": (
            "import openvino",
            'model = openvino.Core().compile_model("model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})',
            f'embedding = model({{"{key}": {key}}})["embedding"]',
        ),
    }


def _proof(contract: Mapping[str, Any]) -> Iterator[str]:
    yield from ("## Prove it", "", "```bash", "kzoo verify .", "```", "")
    yield (
        "checks the SHA-256 of every file, that the SavedModel can only compute, and that each format returns what was "
        f"recorded in `{contract['recorded']['file']}` when it was written, each in a process of its own."
    )
