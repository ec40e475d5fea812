"""Image sets for the benchmark: real shards where they are, else seeded pictures of the same size."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from benchmarks.harness import ROOT
from rayscan.data.packing import write_shards
from rayscan.data.reader import Reader
from rayscan.data.shard_writer import Sample, write_samples
from rayscan.data.sources.base import Scan
from rayscan.data.sources.tar import scan_tar
from rayscan.data.table import ImageTable

SHARED = ROOT.parent / "shared" / "data"


def table_of(scans: list[Scan]) -> ImageTable:
    """The index of some shards, in memory."""

    def column(name: str) -> np.ndarray:
        return np.concatenate([scan.table[name].to_numpy() for scan in scans])

    counts = [len(scan.rows) for scan in scans]
    return ImageTable(
        shard=np.repeat(np.arange(len(counts)), counts).astype(np.int32),
        **{name: column(name) for name in ("offset", "length", "crc32", "width", "height")},
        is_ok=np.ones(sum(counts), bool),
        is_eval=np.zeros(sum(counts), bool),
        shard_uris=tuple(scan.uri for scan in scans),
    )


def shards(folder: Path, name: str, limit: int) -> tuple[list[str], str]:
    """Real shards by name, or made ones: addresses, and which they are."""
    folder_of = SHARED / name
    real = sorted(map(str, [*folder_of.glob("*train*.tar")] or folder_of.glob("*.tar")))
    if real:
        return real[:limit], f"{name}, {len(real[:limit])} shards"
    side = (32, 32) if name == "cifar10" else (375, 500)
    count = 5000 if name == "cifar10" else 100
    made = [made_shard(folder / f"{name}-{n}", n, count, side) for n in range(limit)]
    return made, f"seeded pictures of {side} px"


def made_shard(folder: Path, seed: int, count: int, side: tuple[int, int]) -> str:
    """A shard of smooth pictures with some noise, as JPEG."""
    rng = np.random.default_rng(seed)

    def jpeg() -> bytes:
        coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize(side[::-1], Image.Resampling.BICUBIC), np.int16)
        noisy = np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noisy).save(buffer, "JPEG", quality=95)
        return buffer.getvalue()

    samples = [Sample(f"{n:06d}", jpeg(), "jpg", f"{n}", 0) for n in range(count)]
    return write_samples(samples, str(folder), "made").shards[0]


def as_files(table: ImageTable, gids: np.ndarray, folder: Path) -> list[str]:
    """Images as files of their own."""
    folder.mkdir(parents=True)
    paths = []
    for gid, data in zip(gids.tolist(), Reader(table).read(gids), strict=True):
        path = folder / f"{gid:06d}.jpg"
        path.write_bytes(data)
        paths.append(str(path))
    return paths


def short_side_256(table: ImageTable, folder: Path) -> ImageTable:
    """The same images, packed again at a short side of 256 px as JPEG, as `rayscan shard --resize-px 256`."""
    as_files(table, np.arange(len(table)), folder / "files")
    summary = write_shards(str(folder / "files"), str(folder / "shards"), resize_px=256)
    return table_of([scan_tar(uri, max_pixels=10**9) for uri in summary.shards])


class SmallBlur:
    """Gaussian blur as MoCo v2 and its followers do it: Pillow's filter, radius 0.1 to 2."""

    def __init__(self, seed: int = 0) -> None:
        """Seed the radii."""
        self.rng = np.random.default_rng(seed)

    def __call__(self, image: Image.Image) -> Image.Image:
        """One picture."""
        return image.filter(ImageFilter.GaussianBlur(self.rng.uniform(0.1, 2.0)))
