"""One, two, three and four workers see the same global batches and the same views, from any step on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rayscan.config import ImagesConfig
from rayscan.data.loader import ViewLoader
from rayscan.data.order import Order, rank_slice
from rayscan.data.table import ImageTable
from tests.unit.data.conftest import encoded, make_tar, picture, write_files
from tests.unit.data.test_loader import table_of

COUNT, BATCH, EPOCHS = 23, 5, 2


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> ImageTable:
    folder = tmp_path_factory.mktemp("workers")
    images = [(f"{n:02d}.png", encoded(picture(n, 20 + n, 30))) for n in range(COUNT)]
    write_files(Path(folder), {"s.tar": make_tar(images)})
    return table_of(Path(folder) / "s.tar", COUNT)


def seen(table: ImageTable, images: ImagesConfig, world_size: int, first: int) -> list[tuple[bytes, bytes]]:
    """Ids and bits of every global batch from a step on, put together from what the workers see."""
    order = Order(np.arange(COUNT), BATCH, seed=3)
    batches = []
    loaders = [ViewLoader(table, images, seed=3) for _ in range(world_size)]
    for at in range(first, EPOCHS * order.num_steps):
        epoch, step = divmod(at, order.num_steps)
        parts = [rank_slice(order.batch(epoch, step), rank, world_size) for rank in range(world_size)]
        views = [loader.views(part, "simclr", epoch) for loader, part in zip(loaders, parts, strict=True)]
        batches.append((np.concatenate(parts).tobytes(), torch.cat(views, dim=1).numpy().tobytes()))
    return batches


@pytest.mark.parametrize("color", ["exact", "fast"])
@pytest.mark.parametrize("canvas", [None, 16])
def test_workers_and_resumes_change_no_bit(table: ImageTable, canvas: int | None, color: str) -> None:
    images = ImagesConfig(size_px=16, canvas_px=canvas, color=color)  # type: ignore[arg-type]
    one = seen(table, images, 1, 0)
    for world_size in (2, 3, 4):
        assert seen(table, images, world_size, 0) == one
    for first in (1, 4, 7):
        assert seen(table, images, 3, first) == one[first:]


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_every_image_exactly_once_an_epoch(world_size: int) -> None:
    order = Order(np.arange(COUNT), BATCH, seed=0)
    for epoch in range(3):
        gids = [
            gid
            for step in range(order.num_steps)
            for rank in range(world_size)
            for gid in rank_slice(order.batch(epoch, step), rank, world_size).tolist()
        ]
        assert sorted(gids) == list(range(COUNT))
