"""A user's own folder: what lies in it, how it is laid out, and the pixels of its files."""

from typing import TYPE_CHECKING

from kzoo.system.lazy import names_of

if TYPE_CHECKING:
    from kzoo.folder.census import hash_share
    from kzoo.folder.images import read_image
    from kzoo.folder.source import folder_source

__all__ = [
    "folder_source",
    "hash_share",
    "read_image",
]

__getattr__ = names_of(
    __name__,
    {
        "kzoo.folder.census": ["hash_share"],
        "kzoo.folder.images": ["read_image"],
        "kzoo.folder.source": ["folder_source"],
    },
)
