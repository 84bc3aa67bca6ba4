"""The peers' side of `augment.py`: runs in the environment of peers.txt, takes a turn for each line of JSON it is sent.

A request is {"contestant": ..., "images": file of uint8 [N, H, W, 3], "batch_size": ..., "batches": ..., "small": ...};
the answer {"seconds": ..., "views": ...}. First of all it answers with the versions of what it measures.
"""

import json
import platform
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import lightly.transforms
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

WORKERS = 2


class Pictures(Dataset):
    """Pillow images, as a folder of photographs gives them, and a transform of each."""

    def __init__(self, images: np.ndarray, count: int, transform: Any):
        self.pictures = [Image.fromarray(image) for image in images]
        self.count, self.transform = count, transform

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> list[torch.Tensor]:
        return self.transform(self.pictures[index % len(self.pictures)])


def lightly_transform(size: int, small: bool) -> Any:
    if small:
        return lightly.transforms.SimCLRTransform(input_size=size, gaussian_blur=0.0, cj_strength=0.5)
    return lightly.transforms.SimCLRTransform(input_size=size)


def lightly_one_process(images: np.ndarray, batch_size: int, small: bool) -> Iterator[None]:
    data = Pictures(images, batch_size, lightly_transform(images.shape[1], small))
    while True:
        for index in range(batch_size):
            data[index]
        yield


def lightly_loader(images: np.ndarray, batch_size: int, small: bool) -> Iterator[None]:
    endless = Pictures(images, 2**31, lightly_transform(images.shape[1], small))
    for _ in DataLoader(endless, batch_size=batch_size, num_workers=WORKERS):
        yield


def torchvision_batch(images: np.ndarray, batch_size: int, small: bool) -> Iterator[None]:
    """On whole batches, as v2 allows: with one set of parameters for all images of a batch."""
    size, strength = images.shape[1], 0.5 if small else 1.0
    steps = [
        v2.RandomResizedCrop(size, scale=(0.08, 1.0)),
        v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.ColorJitter(0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength)], p=0.8),
        v2.RandomGrayscale(p=0.2),
        *([] if small else [v2.RandomApply([v2.GaussianBlur(size // 10 // 2 * 2 + 1, (0.1, 2.0))], p=0.5)]),
        v2.ToDtype(torch.float32, scale=True),
    ]
    transform = v2.Compose(steps)
    batch = torch.from_numpy(images[np.arange(batch_size) % len(images)]).permute(0, 3, 1, 2).contiguous()
    while True:
        for _ in range(2):
            transform(batch)
        yield


CONTESTANTS = {
    "lightly, one process": lightly_one_process,
    f"lightly, {WORKERS} workers": lightly_loader,
    "torchvision, one draw per batch": torchvision_batch,
}


def take_turn(contestant: str, images: str, batch_size: int, batches: int, small: bool) -> dict[str, float]:
    work = CONTESTANTS[contestant](np.load(images), batch_size, small)
    next(work)  # starts workers, fills caches
    began = time.perf_counter()
    for _ in range(batches):
        next(work)
    seconds = time.perf_counter() - began
    work.close()
    return {"seconds": seconds, "views": 2 * batch_size * batches}


def main() -> None:
    names = ("torch", "torchvision", "lightly", "pillow", "numpy")
    print(
        json.dumps({"python": platform.python_version(), **{name: metadata.version(name) for name in names}}),
        flush=True,
    )
    for line in sys.stdin:
        print(json.dumps(take_turn(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
