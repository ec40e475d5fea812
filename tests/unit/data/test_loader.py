"""The loader over real shards: the same views by every way, and the prefetcher's promises."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import threading
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as reference

from rayscan.config import ImagesConfig, ViewKind
from rayscan.data import loader as module
from rayscan.data.decode import resize_canvas
from rayscan.data.loader import Prefetcher, ViewLoader
from rayscan.data.reader import Reader
from rayscan.data.table import ImageTable
from rayscan.errors import DataError

ROOT = Path(__file__).parents[3]
CIFAR = ROOT / "../shared/data/cifar10/cifar10-test-000000.tar"
IMAGENET = ROOT / "../shared/data/imagenet-sample/imagenet-sample-000000.tar"
FAMILIES: tuple[ViewKind, ...] = get_args(ViewKind)
COLORS = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
COUNT = 24


def table_of(path: Path, count: int = COUNT) -> ImageTable:
    """Index the first images of a tar with the standard library."""
    rows = []
    with tarfile.open(path) as tar, path.open("rb") as raw:
        for member in tar:
            if member.name.endswith((".jpg", ".jpeg", ".JPEG", ".png")) and len(rows) < count:
                raw.seek(member.offset_data)
                data = raw.read(member.size)
                width, height = Image.open(io.BytesIO(data)).size
                rows.append((member.offset_data, member.size, zlib.crc32(data), width, height))
    offset, length, crc32, width, height = np.array(rows, np.int64).T
    return ImageTable(
        shard=np.zeros(len(rows), np.int32),
        offset=offset,
        length=length,
        crc32=crc32.astype(np.uint32),
        width=width.astype(np.int32),
        height=height.astype(np.int32),
        is_ok=np.ones(len(rows), bool),
        is_eval=np.zeros(len(rows), bool),
        shard_uris=(str(path),),
    )


def _write_tar(path: Path) -> Path:
    """PNG pictures of many shapes, so that these tests run without any data set."""
    rng = np.random.default_rng(0)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for i in range(COUNT):
            height, width = rng.integers(20, 120, 2)
            coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
            data = io.BytesIO()
            coarse.resize((width, height), Image.Resampling.BICUBIC).save(data, "PNG")
            member = tarfile.TarInfo(f"{i:04d}.png")
            member.size = data.tell()
            data.seek(0)
            tar.addfile(member, data)
    return path


@pytest.fixture(scope="module", params=["png", "cifar10", "imagenet"])
def table(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ImageTable:
    if request.param == "png":
        return table_of(_write_tar(tmp_path_factory.mktemp("shards") / "shapes.tar"))
    path = CIFAR if request.param == "cifar10" else IMAGENET
    if not path.exists():
        pytest.skip(f"no real images at {path}")
    return table_of(path)


def _config(canvas: int | None, size: int = 32, **changes: object) -> ImagesConfig:
    return replace(ImagesConfig(size_px=size, canvas_px=canvas), **changes)


@pytest.mark.parametrize("family", FAMILIES)
def test_kept_and_freshly_decoded_canvases_give_the_same_views(table: ImageTable, family: ViewKind) -> None:
    kept, fresh = (ViewLoader(table, _config(40, resident_bytes=b), seed=1) for b in (10**9, 0))
    assert kept.is_resident and not fresh.is_resident
    gids = np.random.default_rng(0).permutation(COUNT)
    for epoch in (0, 1):  # the second time the canvases come from memory
        views = kept.views(gids, family, epoch)
        assert views.shape == (2, COUNT, 3, 32, 32) and views.dtype == torch.float32
        assert torch.equal(views, fresh.views(gids, family, epoch))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("canvas", [40, None])
def test_a_view_is_bit_identical_in_any_batch_and_piece(
    table: ImageTable, family: ViewKind, canvas: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    gids = np.arange(COUNT)
    whole = ViewLoader(table, _config(canvas), seed=2).views(gids, family, 5)
    order = np.random.default_rng(1).permutation(COUNT)
    pieces = [
        ViewLoader(table, _config(canvas), seed=2).views(p, family, 5) for p in np.array_split(order, 7)
    ]
    assert torch.equal(torch.cat(pieces, dim=1), whole[:, order])
    single = ViewLoader(table, _config(canvas, decode_threads=1), seed=2).views(gids, family, 5, views=(1,))
    assert torch.equal(single[0], whole[1])
    repeated = ViewLoader(table, _config(canvas), seed=2).views(np.array([3, 3, 1]), family, 5)
    assert torch.equal(repeated, whole[:, [3, 3, 1]])
    monkeypatch.setitem(module.CHUNK_FLOATS, "cpu", 2 * 3 * 40 * 40 * 5)
    monkeypatch.setattr(module, "DECODED_BYTES", 300_000)
    assert torch.equal(ViewLoader(table, _config(canvas), seed=2).views(gids, family, 5), whole)


@pytest.mark.parametrize("canvas", [40, None])
def test_inference_mode_of_the_caller_changes_nothing(table: ImageTable, canvas: int | None) -> None:
    gids = np.arange(COUNT)
    loader = ViewLoader(table, _config(canvas, decode_threads=2), seed=3)
    with torch.inference_mode():
        inside = loader.plain(gids).clone()
    assert torch.equal(inside, loader.plain(gids))
    loader.plain(gids).add_(1)  # what a training gets is no inference tensor


def test_plain_views_of_full_pictures_are_torchvisions_center_crop_and_resize(table: ImageTable) -> None:
    gids, size = np.arange(COUNT), 24
    out = ViewLoader(table, _config(None, size, **COLORS), seed=0).plain(gids)
    for gid, picture in enumerate(Reader(table).images(gids)):
        short = min(picture.shape[:2])
        side = min(short, max(size, round(short * 7 / 8)))
        cut = reference.center_crop(torch.tensor(picture).permute(2, 0, 1), [side, side])
        want = reference.resize(cut, [size, size], antialias=True).float() / 255
        assert (out[gid] - want).abs().max() < 1.01 / 255


def test_plain_views_of_canvases_are_their_center(table: ImageTable) -> None:
    gids, size = np.arange(COUNT), 28
    out = ViewLoader(table, _config(32, size, **COLORS), seed=0).plain(gids)
    for gid, picture in enumerate(Reader(table).images(gids)):
        canvas = resize_canvas(picture, 32)[2:-2, 2:-2] / 255
        assert np.abs(out[gid].permute(1, 2, 0).numpy() - canvas).max() < 1e-4
    assert torch.equal(ViewLoader(table, _config(32, size, **COLORS), seed=9).plain(gids), out)


def test_full_pictures_and_large_canvases_agree_on_random_crops() -> None:
    """Square pictures of canvas size: the canvas is the picture, and both ways must show the same crop."""
    if not CIFAR.exists():
        pytest.skip(f"no real images at {CIFAR}")
    table, gids = table_of(CIFAR), np.arange(COUNT)
    for family in FAMILIES:
        ways = [ViewLoader(table, _config(canvas, 32, **COLORS), seed=0) for canvas in (None, 32)]
        full, canvas = (way.views(gids, family, 0) for way in ways)
        # The first is rounded to gray levels after the crop; hue and equalize enlarge that for a few.
        assert ((full - canvas).abs() < 3 / 255).float().mean() > 0.97


def test_no_images_give_no_views(table: ImageTable) -> None:
    """A worker's share of a small batch may be empty."""
    for canvas in (40, None):
        views = ViewLoader(table, _config(canvas), seed=0).views(np.array([], np.int64), "simclr", 0)
        assert views.shape == (2, 0, 3, 32, 32)


def test_another_process_makes_the_same_views() -> None:
    if not CIFAR.exists():
        pytest.skip(f"no real images at {CIFAR}")
    program = "from tests.unit.data.test_loader import fingerprints as made; print(*made())"
    command = [sys.executable, "-c", program]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    assert out == fingerprints()


def fingerprints() -> list[str]:
    """Hashes of a few views of CIFAR-10 by both ways."""
    table = table_of(CIFAR)
    ways = [ViewLoader(table, _config(canvas), seed=3) for canvas in (32, None)]
    made = [way.views(np.arange(8), family, 2) for way in ways for family in FAMILIES]
    return [hashlib.sha256(views.numpy().tobytes()).hexdigest() for views in made]


def test_two_threads_may_ask_at_once(table: ImageTable) -> None:
    gids = np.arange(COUNT)
    want = ViewLoader(table, _config(40), seed=0).plain(gids)
    shared = ViewLoader(table, _config(40), seed=0)
    found: list[torch.Tensor] = []
    threads = [threading.Thread(target=lambda: found.append(shared.plain(gids))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and all(torch.equal(views, want) for views in found)


def test_altered_shards_are_refused(tmp_path: Path) -> None:
    path = _write_tar(tmp_path / "shapes.tar")
    table = table_of(path)
    data = bytearray(path.read_bytes())
    data[int(table.offset[4]) + 50] ^= 1
    path.write_bytes(data)
    for canvas in (40, None):
        loader = ViewLoader(table, _config(canvas), seed=0)
        with pytest.raises(DataError):
            loader.views(np.arange(COUNT), "simclr", 0)
        assert loader.views(np.array([0, 1]), "simclr", 0).isfinite().all()


def test_prefetcher_keeps_order_and_works_ahead() -> None:
    begun = [threading.Event() for _ in range(6)]

    def fn(step: int) -> int:
        begun[step].set()
        return step * step

    with Prefetcher(fn, range(6), ahead=2) as results:
        assert begun[0].wait(10) and begun[1].wait(10)  # before anything was asked for
        assert not begun[2].is_set()
        assert next(results) == 0
        assert begun[2].wait(10)  # while the first result is in use
        assert list(results) == [1, 4, 9, 16, 25]
        assert list(results) == []
    assert list(Prefetcher(fn, range(0))) == []
    assert list(Prefetcher(fn, [5, 2, 4], ahead=9)) == [25, 4, 16]


def test_prefetcher_raises_to_the_consumer_at_the_failing_step() -> None:
    def fn(step: int) -> int:
        if step == 2:
            raise DataError("image 17 is gone")
        return step

    results = Prefetcher(fn, range(5))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(DataError, match="image 17 is gone"):
        next(results)
    assert list(results) == []


def test_prefetcher_closes_in_the_middle_and_leaves_no_thread() -> None:
    def steps() -> Iterator[int]:
        step = 0
        while True:  # endless, as when training goes on
            yield step
            step += 1

    before = threading.active_count()
    with Prefetcher(lambda step: step, steps()) as results:
        assert next(results) == 0
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    assert list(results) == []
    results.close()
