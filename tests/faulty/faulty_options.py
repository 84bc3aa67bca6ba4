"""Options of the faulty methods and backbones. Light, as options must be."""

from pydantic import BaseModel, ConfigDict, Field

from kzoo.options import Options


class GoodOptions(Options):
    temperature: float = Field(0.2, gt=0, description="softmax temperature")
    width: int = Field(16, ge=1, description="width of the projector")


class Undocumented(GoodOptions):
    secret: float = Field(1.0, gt=0)


class Unbounded(GoodOptions):
    momentum: float = Field(0.9, description="of the moving average")


class Unchecked(GoodOptions):
    depth: int = Field(3, description="number of layers")


class Listed(GoodOptions):
    widths: tuple[int, ...] = Field((8, 8), description="widths of the layers")


class Changeable(GoodOptions):
    depths: list[int] = Field([1, 2], description="layers of each block")


class Open(BaseModel):
    temperature: float = Field(0.2, gt=0, description="softmax temperature")


class Unfrozen(GoodOptions):
    model_config = ConfigDict(frozen=False)


class Unwritable(GoodOptions):
    chosen: frozenset[bytes] = Field(frozenset([b"\xff"]), description="what no YAML can say")


class WithDropout(Options):
    dropout: float = Field(0.0, ge=0, lt=1, description="share left out")


class WithPatches(Options):
    patch_size: int = Field(4, ge=1, description="side of a patch")
