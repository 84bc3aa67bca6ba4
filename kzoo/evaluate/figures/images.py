"""Arrays as pictures in a figure."""

import math

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import BboxImage
from matplotlib.patches import Rectangle
from matplotlib.transforms import Bbox, TransformedBbox


def put_picture(figure: Figure, box: Bbox, picture: np.ndarray, frame: str | None = None) -> None:
    """An image [h,w] or [h,w,3] in [0, 1] in the middle of a box in inches, as large as it fits, perhaps in a frame.

    Few pixels are drawn as squares, many are smoothed. No axes for each: a hundred of them take seconds.
    """
    scale = min(box.width / picture.shape[1], box.height / picture.shape[0])
    width, height = scale * picture.shape[1], scale * picture.shape[0]
    left, bottom = (box.x0 + box.x1 - width) / 2, (box.y0 + box.y1 - height) / 2
    place = TransformedBbox(Bbox.from_bounds(left, bottom, width, height), figure.dpi_scale_trans)
    smooth = "nearest" if max(picture.shape[:2]) < 100 else "antialiased"
    image = BboxImage(place, cmap="gray", norm=Normalize(0, 1), interpolation=smooth)
    image.set_data(picture)
    figure.add_artist(image)
    if frame:
        edge = Rectangle((left, bottom), width, height, fill=False, linewidth=2.2, edgecolor=frame)
        edge.set_transform(figure.dpi_scale_trans)
        figure.add_artist(edge)


def displayable(images: np.ndarray) -> tuple[list[np.ndarray], list[str]]:
    """Images as [h,w] or [h,w,3] in [0, 1], and what had to be done to them."""
    values = np.asarray(images)
    remarks = []
    values = values / np.float32(255) if values.dtype == np.uint8 else values.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    if low < -1e-3 or high > 1 + 1e-3:
        values = (values - low) / max(high - low, 1e-12)
        remarks.append("stretched")
    values = np.clip(values, 0, 1)
    if values.shape[-1] not in (1, 3):
        remarks.append(f"mean of {values.shape[-1]} channels")
        values = values.mean(axis=-1, keepdims=True)
    pictures = [mosaic(value) if value.ndim == 4 else value for value in values]
    return [picture[..., 0] if picture.shape[-1] == 1 else picture for picture in pictures], remarks


def mosaic(patches: np.ndarray) -> np.ndarray:
    """n patches [n,h,w,c] row by row in a square grid, white between them."""
    count, height, width, channels = patches.shape
    across = math.ceil(math.sqrt(count))
    down = math.ceil(count / across)
    gap = max(1, round(0.06 * max(height, width)))
    grid = np.ones((down * (height + gap) - gap, across * (width + gap) - gap, channels), np.float32)
    for index, patch in enumerate(patches):
        top, left = (index // across) * (height + gap), (index % across) * (width + gap)
        grid[top : top + height, left : left + width] = patch
    return grid
