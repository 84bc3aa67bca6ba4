"""What others serve: written in several formats, read again, and compared with the backbone."""

from typing import TYPE_CHECKING

from kzoo.system.lazy import names_of

if TYPE_CHECKING:
    from kzoo.export.check_ops import check_ops
    from kzoo.export.write import export_backbone

__all__ = [
    "check_ops",
    "export_backbone",
]

__getattr__ = names_of(
    __name__,
    {
        "kzoo.export.check_ops": ["check_ops"],
        "kzoo.export.write": ["export_backbone"],
    },
)
