"""How fast images come: bytes by index, batches of two views, the index; against what people use instead.

    python -m benchmarks.input --json F [--quick]

CPU seconds, one thread, interleaved; a ratio is the rival's CPU seconds per image over ours.

(a) random reads: `Reader.read` of batches of 256 (64 large) gids in a shuffled order, against one pass of
    webdataset over the same shards; CIFAR-10 JPEGs and ImageNet photographs of about 110 kB. Ours is measured
    after every image has been compared with its checksum once; `details` hold it with the comparison too.
(b) batches of two SimCLR views of 32 px, float32, normalized, randomness keyed per image, decoded from the
    shards every time; against files + PIL + torchvision + DataLoader, as the published SCAN code feeds
    itself, and against webdataset + the same PIL transforms. `details` hold the mode that keeps pixels.
(c) two views of 224 px from shards of short side 256 (as `rayscan shard --resize-px 256` makes them), with
    blur; against files + PIL: all on the CPU in fast colors, and what stays on the CPU when a GPU colors.
(d) loading an index of 1.28 M rows: seconds, and megabytes that the process grows by.

--quick takes 2 CIFAR-10 shards (10,000 images), 1,024 of them for views, 200 photographs, 64 for views.
Without: 10 shards, 8,192, 500, 256. Without ../shared/data, seeded pictures of the same sizes are made.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.feeding import rivals, sets
from benchmarks.harness import ROOT, Options, Report, Times, interleaved, options, ratio
from rayscan.config import ImagesConfig
from rayscan.data.loader import ViewLoader
from rayscan.data.reader import Reader
from rayscan.data.sources.tar import scan_tar
from rayscan.data.table import ImageTable

MAX_PIXELS = 10**9
INDEX_ROWS = 1_281_167


class Sizes(NamedTuple):
    """How much of everything."""

    cifar_shards: int
    views32: int
    photo_shards: int
    views224: int
    large_passes: int


SIZES = {True: Sizes(2, 1024, 2, 64, 5), False: Sizes(10, 8192, 5, 256, 10)}


def main() -> None:
    """Measure and report."""
    asked = options(__doc__)
    torch.set_num_threads(1)
    report = Report(asked, "input")
    sizes = SIZES[asked.quick]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        times = _small(report, asked, folder, sizes) | _large(report, asked, folder, sizes)
        _index(report, folder)
        report.detail("sizes", sizes._asdict())
        report.finish(times)


def _small(report: Report, asked: Options, folder: Path, sizes: Sizes) -> dict[str, Times]:
    uris, what = sets.shards(folder, "cifar10", sizes.cifar_shards)
    report.detail("small_images", what)
    table = sets.table_of([scan_tar(uri, max_pixels=MAX_PIXELS) for uri in uris])
    gids = np.random.default_rng(0).permutation(len(table))
    chosen = gids[: sizes.views32]
    paths = sets.as_files(table, chosen, folder / "small")
    times = interleaved(
        {
            "read_small": partial(read, Reader(table), gids, 256),
            "read_small_checked": partial(read, Reader(table), gids, 256, is_checking=True),
            "wds_small": partial(rivals.wds_raw, uris),
        },
        rounds=asked.rounds,
    )
    report.value("ratio_random_read_small", ratio(times["wds_small"], times["read_small"]), goal=(">=", 20))
    report.detail("ratio_with_checksums_small", ratio(times["wds_small"], times["read_small_checked"]))
    ways = {
        f"{color}{'_resident' if kept else ''}32": partial(views, loader(table, 32, color, kept), chosen)
        for color in ("exact", "fast")
        for kept in (False, True)
    }
    ways["pil32"] = partial(rivals.files_pil, paths, 32)
    ways["wds32"] = partial(rivals.wds_pil, uris, len(chosen), 32)
    times |= interleaved(ways, rounds=asked.rounds)
    report.value("ratio_views32_exact_vs_pil", ratio(times["pil32"], times["exact32"]), goal=(">=", 6))
    report.value("ratio_views32_fast_vs_pil", ratio(times["pil32"], times["fast32"]), goal=(">=", 10))
    report.value("ratio_views32_fast_vs_wds", ratio(times["wds32"], times["fast32"]), goal=(">=", 12))
    for color in ("exact", "fast"):
        kept = ratio(times["pil32"], times[f"{color}_resident32"])
        report.detail(f"ratio_views32_{color}_resident_vs_pil", kept)
    return times


def _large(report: Report, asked: Options, folder: Path, sizes: Sizes) -> dict[str, Times]:
    uris, what = sets.shards(folder, "imagenet-sample", sizes.photo_shards)
    report.detail("large_images", what)
    table = sets.table_of([scan_tar(uri, max_pixels=MAX_PIXELS) for uri in uris])
    rng = np.random.default_rng(0)
    gids = np.concatenate([rng.permutation(len(table)) for _ in range(sizes.large_passes)])
    times = interleaved(
        {
            "read_large": partial(read, Reader(table), gids, 64),
            "read_large_checked": partial(read, Reader(table), gids, 64, is_checking=True),
            "wds_large": partial(rivals.wds_raw, uris * sizes.large_passes),
        },
        rounds=asked.rounds,
    )
    report.value("ratio_random_read_large", ratio(times["wds_large"], times["read_large"]), goal=(">=", 8))
    report.detail("ratio_with_checksums_large", ratio(times["wds_large"], times["read_large_checked"]))
    small = sets.short_side_256(table, folder / "resized")
    chosen = gids[: sizes.views224]
    paths = sets.as_files(small, chosen, folder / "resized-files")
    times |= interleaved(
        {
            "fast224": partial(views, loader(small, 224, "fast", False), chosen),
            "exact224": partial(views, loader(small, 224, "exact", False), chosen),
            "cuts224": partial(cuts, loader(small, 224, "fast", False), chosen),
            "pil224": partial(rivals.files_pil, paths, 224),
        },
        rounds=asked.rounds,
    )
    report.value("ratio_views224_vs_pil", ratio(times["pil224"], times["fast224"]), goal=(">=", 4))
    report.value("ratio_views224_gpu_split_vs_pil", ratio(times["pil224"], times["cuts224"]), goal=(">=", 8))
    report.detail("ratio_views224_exact_vs_pil", ratio(times["pil224"], times["exact224"]))
    return times


def _index(report: Report, folder: Path) -> None:
    """Load a large index in a process of its own, so that its memory can be told."""
    command = [sys.executable, "-m", "benchmarks.feeding.index_load", str(folder / "index"), str(INDEX_ROWS)]
    asked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    seconds, megabytes = map(float, asked.stdout.split()[-2:])
    report.value("index_load_seconds", seconds, goal=("<=", 1.0))
    report.value("index_load_mb", megabytes, goal=("<=", 200))


def read(reader: Reader, gids: np.ndarray, batch: int, *, is_checking: bool = False) -> int:
    """Bytes of all images, batch by batch."""
    done = 0
    for start in range(0, len(gids), batch):
        if is_checking:
            reader._checked_at[:] = 0  # as if each image were read for the first time
        done += len(reader.read(gids[start : start + batch]))
    return done


def loader(table: ImageTable, size: int, color: str, is_kept: bool) -> ViewLoader:
    """Ours, with one thread."""
    canvas = size if size == 32 else None
    images = ImagesConfig(
        size_px=size,
        canvas_px=canvas,
        color="fast" if color == "fast" else "exact",
        resident_bytes=4_000_000_000 if is_kept else 0,
        decode_threads=1,
    )
    return ViewLoader(table, images, seed=0)


def views(source: ViewLoader, gids: np.ndarray) -> int:
    """Two views of all images."""
    return rivals.tensors(_batches(source.views, gids))


def cuts(source: ViewLoader, gids: np.ndarray) -> int:
    """What the CPU does when a GPU colors."""
    return rivals.tensors(_batches(source.cuts, gids))


def _batches(make: object, gids: np.ndarray) -> Iterator[Tensor]:
    assert callable(make)
    for start in range(0, len(gids), rivals.BATCH):
        yield make(gids[start : start + rivals.BATCH], "simclr", 0)


if __name__ == "__main__":
    main()
