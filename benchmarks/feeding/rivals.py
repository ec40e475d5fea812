"""The ways of others, set up as their own documentation recommends. Each goes over its images once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import webdataset as wds
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.feeding.sets import SmallBlur

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
BATCH = 256


def two_views(size: int) -> Callable[[Image.Image], tuple[Tensor, Tensor]]:
    """SimCLR's transforms with SCAN's published strengths, on PIL pictures; blur at 224 px, none at 32."""
    steps: list[Any] = [
        transforms.RandomResizedCrop(size, scale=(0.2, 1.0)),
        transforms.RandomHorizontalFlip(),
        transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
        transforms.RandomGrayscale(p=0.2),
    ]
    if size >= 64:
        steps.append(transforms.RandomApply([SmallBlur()], p=0.5))
    one = transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    return lambda image: (one(image), one(image))


class Files(Dataset[tuple[Tensor, Tensor]]):
    """Files of their own, opened with PIL: torchvision's ImageFolder without the classes."""

    def __init__(self, paths: Sequence[str], size: int) -> None:
        """Remember what to open."""
        self.paths, self.change = paths, two_views(size)

    def __len__(self) -> int:
        """Files."""
        return len(self.paths)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Two views of one."""
        with Image.open(self.paths[number]) as image:
            return self.change(image.convert("RGB"))


def files_pil(paths: Sequence[str], size: int) -> int:
    """Files + PIL + torchvision + DataLoader, shuffled. In this process: cores are what is counted."""
    loader = DataLoader(Files(paths, size), batch_size=BATCH, shuffle=True, num_workers=0)
    return sum(len(first) for first, _ in loader)


def wds_pil(uris: Sequence[str], count: int, size: int) -> int:
    """The webdataset library with a shuffle buffer, PIL decoding, the same transforms, batched."""
    change = two_views(size)
    done = 0
    for first, _ in (
        _stream(uris)
        .shuffle(1000)
        .decode("pil")
        .to_tuple("jpg;jpeg;png")
        .map_tuple(change)
        .map(lambda sample: sample[0])
        .batched(BATCH)
    ):
        done += len(first)
        if done >= count:
            break
    return done


def wds_raw(uris: Sequence[str]) -> int:
    """Bytes of one pass over all samples."""
    return sum(1 for _ in _stream(uris))


def _stream(uris: Sequence[str]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return wds.WebDataset(list(uris), shardshuffle=False)


def tensors(batches: Iterator[Tensor]) -> int:
    """Images in batches of views [V, B, 3, S, S]."""
    done = 0
    with torch.no_grad():
        for batch in batches:
            done += batch.shape[1]
    return done
