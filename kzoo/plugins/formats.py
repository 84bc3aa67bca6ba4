"""The formats that kzoo exports to, and whether what a format needs is installed. Plugins bring more."""

from importlib import metadata

from kzoo.errors import PluginError
from kzoo.specs import FormatSpec

FORMATS = (
    FormatSpec(
        name="saved_model",
        target="kzoo.export.saved_model:write_saved_model",
        reader="kzoo.export.readers:saved_model",
        file="saved_model.pb",
        runtime="tensorflow",
        install="kzoo",
        summary="TensorFlow's SavedModel; its signatures take pixels and files",
    ),
    FormatSpec(
        name="litert",
        target="kzoo.export.formats:write_litert",
        reader="kzoo.export.readers:litert",
        file="model.tflite",
        runtime="ai-edge-litert",
        install="kzoo[litert]",
        summary="LiteRT (TensorFlow Lite), for phones and small devices",
    ),
    FormatSpec(
        name="onnx",
        target="kzoo.export.formats:write_onnx",
        reader="kzoo.export.readers:onnx",
        file="model.onnx",
        runtime="onnxruntime",
        writes_with=("onnx", "tf2onnx"),
        install="kzoo[onnx]",
        summary="ONNX, for ONNX Runtime and other programs that read it",
    ),
    FormatSpec(
        name="openvino",
        target="kzoo.export.formats:write_openvino",
        reader="kzoo.export.readers:openvino",
        file="model.xml",
        runtime="openvino",
        install="kzoo[openvino]",
        summary="OpenVINO, for Intel's processors",
    ),
)


def runtime_version(spec: FormatSpec) -> str:
    """Of what reads a format; "" where it is not installed."""
    try:
        return metadata.version(spec.runtime)
    except metadata.PackageNotFoundError:
        return ""


def require_installed(spec: FormatSpec) -> None:
    """Raise PluginError where what writes a format, or reads it again, is not installed."""
    for name in (spec.runtime, *spec.writes_with):
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            raise PluginError(f"format '{spec.name}' needs {name}: pip install '{spec.install}'") from None
