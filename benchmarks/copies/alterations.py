"""Collections with known near-copies: pictures of a set, some also resized, recompressed, cropped ..."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.feeding import sets
from rayscan.data.reader import Reader
from rayscan.data.sources.tar import scan_tar

QUALITY = 95
ORIGINAL = "original"


@dataclass(frozen=True)
class Collection:
    """Files in a folder, in the order of their names."""

    folder: Path
    files: tuple[bytes, ...]
    original: np.ndarray
    """Number of the picture that each file shows [N]."""
    kind: np.ndarray
    """Name of the alteration, or ORIGINAL [N]."""


def _jpeg(image: Image.Image, quality: int = QUALITY) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _half(image: Image.Image, _: np.random.Generator) -> bytes:
    size = max(1, image.width // 2), max(1, image.height // 2)
    return _jpeg(image.resize(size, Image.Resampling.BICUBIC))


def _cropped(image: Image.Image, rng: np.random.Generator) -> bytes:
    """Each side less 5 to 8 %, anywhere."""
    share = rng.uniform(0.05, 0.08)
    left, top = rng.uniform(0, share, 2) * image.size
    right, bottom = left + (1 - share) * image.width, top + (1 - share) * image.height
    return _jpeg(image.crop((round(left), round(top), round(right), round(bottom))))


def _times(factor: float) -> Callable[[Image.Image, np.random.Generator], bytes]:
    table = [min(255, round(value * factor)) for value in range(256)] * 3
    return lambda image, _: _jpeg(image.point(table))


ALTERATIONS: dict[str, Callable[[Image.Image, np.random.Generator], bytes]] = {
    "resize": _half,
    "recompression": lambda image, _: _jpeg(image, 40),
    "crop": _cropped,
    "brighter": _times(1.15),
    "darker": _times(0.85),
}
"""Half the size, JPEG quality 40, 5 to 8 % off each side, 15 % brighter, 15 % darker."""


def collection(shards: list[Path], folder: Path, num_pictures: int, num_altered: int) -> Collection:
    """Pictures of some shards drawn by a seed, and the alterations of some of them, in mixed order."""
    table = sets.table_of([scan_tar(str(path), max_pixels=10**9) for path in shards])
    rng = np.random.default_rng(0)
    gids = np.sort(rng.choice(len(table), min(num_pictures, len(table)), replace=False))
    made = [(data, number, ORIGINAL) for number, data in enumerate(Reader(table).read(gids))]
    for number in np.sort(rng.choice(len(gids), min(num_altered, len(gids)), replace=False)).tolist():
        with Image.open(io.BytesIO(made[number][0])) as image:
            whole = image.convert("RGB")
        made += [(alter(whole, rng), number, name) for name, alter in ALTERATIONS.items()]
    made = [made[at] for at in rng.permutation(len(made))]
    folder.mkdir(parents=True, exist_ok=True)
    for at, (data, _, _) in enumerate(made):
        if not (path := folder / f"{at:06d}.jpg").exists():
            path.write_bytes(data)
    files, original, kind = zip(*made, strict=True)
    return Collection(folder, files, np.array(original), np.array(kind))
