"""What the headers of a folder's images tell before any is decoded, for the dry run. Without TensorFlow."""

from collections.abc import Mapping

from kzoo.errors import DataError
from kzoo.folder.census import Census
from kzoo.folder.images import header_size, reason
from kzoo.folder.layout import some
from kzoo.options import FolderOptions

_LOOKED_AT = 2000  # headers that are read, at most


def glance(census: Census, options: FolderOptions) -> tuple[Census, tuple[int, int] | None, str]:
    """Read the headers of some images of all splits, evenly spread where there are many.

    Returns the census without the files whose headers are broken; (height, width) of all images, None where no
    header told it; and a line about what was looked at, and what was not.

    Raises DataError where training would: files that are broken, unless they may be left out, and images of several
    sizes that have none to be brought to.
    """
    names = [file.name for files in census.splits.values() for file in files]
    count = min(len(names), _LOOKED_AT)
    sizes: set[tuple[int, int]] = set()
    broken: dict[str, str] = {}
    silent = 0
    for number in range(count):
        name = names[number * len(names) // count]
        try:
            size = header_size(census.folder / name)
        except Exception as error:  # Pillow raises nearly anything on a broken file
            broken[name] = reason(error)
            continue
        if size:
            sizes.add(size)
        else:
            silent += 1
    census = census.without(broken)
    if census.broken and not options.skip_broken:
        raise unreadable(census.title, census.broken)
    if options.size is None and len(sizes) > 1:
        raise mixed(census.title, sorted(sizes))
    line = f"headers: {count - silent:,} of {len(names):,} files were read, no pixel was"
    line += f"; {silent:,} are of formats whose headers do not tell the size" if silent else ""
    line += f"; the other {len(names) - count:,} were not looked at" if count < len(names) else ""
    width, height = (options.size, options.size) if options.size else next(iter(sizes), (None, None))
    return census, (height, width) if height and width else None, line


def mixed(title: str, sizes: list[tuple[int, int]]) -> DataError:
    """That images have several sizes."""
    first, last = (f"{width}x{height}" for width, height in (sizes[0], sizes[-1]))
    return DataError(f"{title}: images of {len(sizes):,} sizes, from {first} to {last}; set data.options.size")


def unreadable(title: str, broken: Mapping[str, str], more: str = "") -> DataError:
    """That files are broken. more: where all of them are listed."""
    return DataError(
        f"{title}: cannot read {told(broken)}{more}; repair or remove them, or set data.options.skip_broken"
    )


def told(broken: Mapping[str, str]) -> str:
    """ "2 broken files: a.jpg (an empty file), b.jpg (...)"."""
    listed = some([f"{name} ({why})" for name, why in sorted(broken.items())])
    return f"{len(broken):,} broken file{'s' * (len(broken) != 1)}: {listed}"
