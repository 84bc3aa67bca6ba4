"""What the context family brings."""

from collections.abc import Iterator

from kzoo.hookspecs import hookimpl
from kzoo.specs import MethodSpec
from kzoo_context.options import RotationOptions


@hookimpl
def kzoo_methods() -> Iterator[MethodSpec]:
    yield MethodSpec(
        name="rotation",
        target="kzoo_context.rotation:Rotation",
        options=RotationOptions,
        family="context",
        summary="Tell by how many quarter turns each image was rotated (RotNet)",
        paper="Gidaris, Singh, Komodakis, ICLR 2018, arXiv:1803.07728",
    )
