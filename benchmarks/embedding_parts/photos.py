"""Photos as JPEG files: real ones of shared/data where they are, else seeded ones of the same size."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.feeding import sets
from rayscan.data.reader import Reader
from rayscan.data.sources.tar import scan_tar
from rayscan.data.table import ImageTable

MEGAPIXELS_12 = (3000, 4000)


def indexed(folder: Path, count: int) -> tuple[ImageTable, np.ndarray, list[Path], str]:
    """Photos of about 110 kB: index, the gids to take, the same photos as files, and which they are."""
    uris, which = sets.shards(folder, "imagenet-sample", 5)
    table = sets.table_of([scan_tar(uri, max_pixels=100_000_000) for uri in uris])
    gids = np.arange(len(table))
    gids = np.tile(gids, -(-count // len(gids)))[:count]
    files = folder / "files"
    files.mkdir()
    paths = []
    for gid, data in zip(gids.tolist(), Reader(table).read(gids), strict=True):
        paths.append(files / f"{gid}.jpg")
        paths[-1].write_bytes(data)
    return table, gids, paths, which


def large(count: int) -> list[bytes]:
    """JPEGs of 12 megapixels with structure at every scale and a sensor's noise, quality 90."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        pixels = np.zeros((*MEGAPIXELS_12, 3), np.float32)
        for cells in (6, 40, 300):
            coarse = rng.integers(0, 256, (cells * 3, cells * 4, 3), dtype=np.uint8)
            scaled = Image.fromarray(coarse).resize(MEGAPIXELS_12[::-1], Image.Resampling.BICUBIC)
            pixels += np.asarray(scaled, np.float32) / 3
        pixels += rng.normal(0, 2, pixels.shape).astype(np.float32)
        buffer = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
        made.append(buffer.getvalue())
    return made


def labelled(name: str, count: int) -> tuple[ImageTable, np.ndarray, np.ndarray] | None:
    """Photos with classes: index, gids spread over the first shard, their classes; None if not here."""
    uris = sorted((sets.SHARED / name).glob("*.tar"))[:1]
    if not uris:
        return None
    table = sets.table_of([scan_tar(str(uris[0]), max_pixels=100_000_000)])
    with tarfile.open(uris[0]) as tar:
        classes = [
            int(stream.read())
            for member in tar
            if member.name.endswith(".cls") and (stream := tar.extractfile(member)) is not None
        ]
    gids = np.linspace(0, len(table) - 1, min(count, len(table))).astype(np.int64)
    return table, gids, np.array(classes)[gids]
