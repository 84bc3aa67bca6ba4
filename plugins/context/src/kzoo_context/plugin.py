"""What the context family brings."""

from collections.abc import Iterator

from kzoo.hookspecs import hookimpl
from kzoo.specs import MethodSpec
from kzoo_context.options import ExemplarOptions, JigsawOptions, RelativePositionOptions, RotationOptions


@hookimpl
def kzoo_methods() -> Iterator[MethodSpec]:
    yield MethodSpec(
        name="relative_position",
        target="kzoo_context.relative_position:RelativePosition",
        options=RelativePositionOptions,
        family="context",
        summary="Tell where one patch of an image lies as seen from its neighbour",
        paper="Doersch, Gupta, Efros, ICCV 2015, arXiv:1505.05192",
        any_size=True,
        check_options={"pairs": 1, "features": 16, "hidden": (32,)},
    )
    yield MethodSpec(
        name="exemplar",
        target="kzoo_context.exemplar:Exemplar",
        options=ExemplarOptions,
        family="context",
        summary="Tell every image, or patch, from all others under strong transforms (Exemplar-CNN)",
        paper="Dosovitskiy, Springenberg, Riedmiller, Brox, NeurIPS 2014, arXiv:1406.6909",
        any_size=True,
    )
    yield MethodSpec(
        name="jigsaw",
        target="kzoo_context.jigsaw:Jigsaw",
        options=JigsawOptions,
        family="context",
        summary="Tell by which permutation the tiles of an image were shuffled",
        paper="Noroozi, Favaro, ECCV 2016, arXiv:1603.09246",
        any_size=True,
        check_options={"permutations": 12, "features": 8, "hidden": (32,)},
    )
    yield MethodSpec(
        name="rotation",
        target="kzoo_context.rotation:Rotation",
        options=RotationOptions,
        family="context",
        summary="Tell by how many quarter turns each image was rotated (RotNet)",
        paper="Gidaris, Singh, Komodakis, ICLR 2018, arXiv:1803.07728",
    )
