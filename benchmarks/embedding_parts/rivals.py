"""The ways of others: OpenVINO as its documentation shows it, and what a user of timm would write."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from rayscan.config.preprocessing import Preprocessing
from rayscan.data.central_crop import short_side
from rayscan.engine.inference.openvino_net import converted

BATCH = 64


def openvino_net(
    net: nn.Module, size: int, precision: str, threads: int
) -> Callable[[np.ndarray], np.ndarray]:
    """One model, one synchronous call a batch of BATCH, float32 pixels; all else is OpenVINO's choice."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().compile_model(converted(net, BATCH, size), "CPU", settings)
    return lambda pixels: np.concatenate(
        [compiled(pixels[first : first + BATCH])[0].copy() for first in range(0, len(pixels), BATCH)]
    )


class Files(Dataset[Tensor]):
    """JPEG files, opened with PIL; torchvision's evaluation transform."""

    def __init__(self, paths: Sequence[Path], wanted: Preprocessing) -> None:
        """Remember what to open."""
        self.paths = paths
        self.change = transform(wanted)

    def __len__(self) -> int:
        """Files."""
        return len(self.paths)

    def __getitem__(self, number: int) -> Tensor:
        """Pixels of one, normalised."""
        with Image.open(self.paths[number]) as image:
            return self.change(image.convert("RGB"))


def transform(wanted: Preprocessing) -> Any:
    """Resize, CenterCrop, ToTensor, Normalize on PIL pictures."""
    return transforms.Compose(
        [
            transforms.Resize(short_side(wanted), transforms.InterpolationMode(wanted.interpolation)),
            transforms.CenterCrop(wanted.size_px),
            transforms.ToTensor(),
            transforms.Normalize(wanted.mean, wanted.std),
        ]
    )


def plain(net: nn.Module, paths: Sequence[Path], wanted: Preprocessing, workers: int) -> Callable[[], Tensor]:
    """Timm in eager float32, fed by a DataLoader whose workers stay."""
    loader = DataLoader(Files(paths, wanted), BATCH, num_workers=workers, persistent_workers=workers > 0)

    @torch.inference_mode()
    def whole() -> Tensor:
        return torch.cat([net(pixels) for pixels in loader])

    return whole


def pillow_whole(data: bytes, wanted: Preprocessing) -> np.ndarray:
    """Decode all pixels with Pillow (no draft), then torchvision's Resize and CenterCrop."""
    steps = transform(wanted).transforms[:2]
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(steps[1](steps[0](image.convert("RGB"))))
