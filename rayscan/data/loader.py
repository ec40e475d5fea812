"""From gids to views: the last step of the data, called by whatever trains or embeds.

Two ways lead here. With `images.canvas_px`, pictures become square canvases once, which stay in memory (on
the device) while all of them fit. Without it, every picture is decoded when it is asked for and each view is
cut and scaled from the full picture on the host. The rest is one batched program on the device.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import repeat
from types import TracebackType
from typing import Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from rayscan.config import ImagesConfig, ViewKind
from rayscan.data.decode import resize_canvas
from rayscan.data.keyed import Draw, Integers
from rayscan.data.reader import Reader
from rayscan.data.table import ImageTable
from rayscan.data.views import make_views, view_boxes

T = TypeVar("T")
Picture = npt.NDArray[np.uint8]

DECODED_BYTES = 256_000_000  # full pictures in memory at a time
# A CPU works best within its caches; a GPU wants few, large kernels.
CHUNK_FLOATS = {"cpu": 1 << 22, "cuda": 1 << 28}


class ViewLoader:
    """Views of images by gid: one (seed, epoch, gid, view) gives the same bits in any batch and process."""

    def __init__(
        self, table: ImageTable, images: ImagesConfig, seed: int, device: str | torch.device = "cpu"
    ) -> None:
        """Nothing is read yet.

        Args:
            table: Where the images lie.
            images: Sides, mean and standard deviation, memory and threads.
            seed: Seed of the run.
            device: Where the views are made and wanted.
        """
        self._table, self._images, self._seed = table, images, seed
        self._device = torch.device(device)
        self._reader = Reader(table)
        self._pool = ThreadPoolExecutor(images.decode_threads, thread_name_prefix="cut")
        self._lock = threading.Lock()
        self._resident: Tensor | None = None
        side = images.canvas_px
        if side is not None and len(table) * 3 * side * side <= images.resident_bytes:
            self._resident = torch.empty((len(table), 3, side, side), dtype=torch.uint8, device=self._device)
            self._is_filled = np.zeros(len(table), bool)

    @property
    def is_resident(self) -> bool:
        """Whether decoded canvases are kept."""
        return self._resident is not None

    def views(self, gids: Integers, family: ViewKind, epoch: int, views: tuple[int, ...] = (0, 1)) -> Tensor:
        """Augmented views.

        Args:
            gids: Images, int64 [B].
            family: Augmentation family.
            epoch: Pass over the data; another epoch gives other views.
            views: Numbers of the views (V); the same number gives the same view.

        Returns:
            float32 [V, B, 3, S, S] on the device, normalized.

        Raises:
            DataError: an image cannot be read.
        """
        size = self._images.size_px
        draw = Draw(self._seed, epoch, gids, views)
        pixels, boxes = (
            self._cut(draw, family) if self._images.canvas_px is None else self._whole(draw, family)
        )
        out = torch.empty((len(views), len(gids), 3, size, size), device=self._device)
        floats = len(views) * 3 * max(size, pixels.shape[-1]) ** 2
        step = max(1, CHUNK_FLOATS.get(self._device.type, CHUNK_FLOATS["cpu"]) // floats)
        for start in range(0, len(gids), step):
            part = slice(start, start + step)
            sources = pixels[:, part].to(self._device).flatten(0, 1)
            part_draw = replace(draw, gids=gids[part])
            made = make_views(sources, boxes[:, part].reshape(-1, 4), family, part_draw, self._images)
            out[:, part] = made.reshape(len(views), -1, *made.shape[1:])
        return out

    def plain(self, gids: Integers) -> Tensor:
        """The views images are embedded and judged by: float32 [B, 3, S, S], normalized."""
        return self.views(gids, "plain", 0, (0,))[0]

    def _whole(self, draw: Draw, family: ViewKind) -> tuple[Tensor, Integers]:
        """Canvases, uint8 [V, B, 3, c, c], and where in them the views lie [V, B, 4]."""
        shape = (len(draw.views), len(draw.gids))
        canvases = self._canvases(draw.gids)
        sides = np.full(shape[0] * shape[1], canvases.shape[-1])
        boxes = view_boxes(family, draw, sides, sides, self._images.size_px)
        return canvases.expand(shape[0], *canvases.shape), boxes.reshape(*shape, 4)

    def _canvases(self, gids: Integers) -> Tensor:
        """Canvases of images, uint8 [B, 3, c, c]."""
        if self._resident is None:
            return self._decoded_canvases(gids)
        with self._lock:  # a prefetching thread and its consumer may both come
            missing = np.unique(gids[~self._is_filled[gids]])
            for part in self._portions(missing):
                self._resident[torch.as_tensor(part, device=self._device)] = self._decoded_canvases(part).to(
                    self._device
                )
                self._is_filled[part] = True
        return self._resident[torch.as_tensor(gids, device=self._device)]

    def _decoded_canvases(self, gids: Integers) -> Tensor:
        side = self._images.canvas_px
        assert side is not None
        canvases = np.empty((len(gids), side, side, 3), np.uint8)
        row = 0
        for part in self._portions(gids):
            decoded = self._reader.images(part, self._images.decode_threads)
            canvases[row : row + len(part)] = list(self._pool.map(resize_canvas, decoded, repeat(side)))
            row += len(part)
        return torch.from_numpy(canvases).permute(0, 3, 1, 2).contiguous()

    def _cut(self, draw: Draw, family: ViewKind) -> tuple[Tensor, Integers]:
        """Views cut and scaled from full pictures, uint8 [V, B, 3, S, S], and boxes that take them whole."""
        num_views, size = len(draw.views), self._images.size_px
        cuts = np.empty((num_views, len(draw.gids), size, size, 3), np.uint8)
        row = 0
        for part in self._portions(draw.gids):
            decoded = self._reader.images(part, self._images.decode_threads) * num_views
            heights, widths = np.array([picture.shape[:2] for picture in decoded]).T
            boxes = view_boxes(family, replace(draw, gids=part), heights, widths, size)
            scaled = list(self._pool.map(cut_and_scale, decoded, boxes, repeat(size)))
            cuts[:, row : row + len(part)] = np.reshape(scaled, (num_views, len(part), *cuts.shape[2:]))
            row += len(part)
        whole = np.broadcast_to(np.array([0, 0, size, size]), (*cuts.shape[:2], 4))
        return torch.from_numpy(cuts).permute(0, 1, 4, 2, 3), whole

    def _portions(self, gids: Integers) -> list[Integers]:
        """Consecutive pieces whose decoded pictures stay within DECODED_BYTES (or are a single one)."""
        sizes = self._table.width[gids].astype(np.int64) * self._table.height[gids] * 3
        bins = (np.cumsum(sizes) - 1) // DECODED_BYTES
        return np.split(gids, np.flatnonzero(np.diff(bins)) + 1) if len(gids) else []


def cut_and_scale(picture: Picture, box: Integers, size: int) -> Picture:
    """Cut a box (top, left, height, width) and scale it to [size, size, 3], bilinear and antialiased."""
    top, left, height, width = (int(edge) for edge in box)
    cut = np.ascontiguousarray(picture[top : top + height, left : left + width])
    if (height, width) == (size, size):
        return cut
    return np.asarray(Image.fromarray(cut).resize((size, size), Image.Resampling.BILINEAR))


class Prefetcher(Generic[T]):
    """Computes the results of coming steps in a background thread while the present one is used.

    Iterating gives `fn(step)` in the order of the steps. What `fn` raises is raised to the consumer at that
    step, and ends the iteration. Close it, or use it as a context manager, to stop early.
    """

    def __init__(self, fn: Callable[[int], T], steps: Iterable[int], ahead: int = 2) -> None:
        """Start computing.

        Args:
            fn: What to compute; called in one background thread.
            steps: Its arguments, in order.
            ahead: Results computed before they are asked for.
        """
        self._fn, self._steps = fn, iter(steps)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._coming: deque[Future[T]] = deque()
        for _ in range(ahead):
            self._submit()

    def __iter__(self) -> Iterator[T]:
        """Itself: the results can be gone through once."""
        return self

    def __next__(self) -> T:
        """The result of the next step; the one `ahead` of it starts."""
        self._submit()
        if not self._coming:
            self.close()
            raise StopIteration
        try:
            return self._coming.popleft().result()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Drop what has not begun, wait for what has. Harmless when repeated."""
        self._steps = iter(())
        self._coming.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _submit(self) -> None:
        for step in self._steps:
            self._coming.append(self._pool.submit(self._fn, step))
            return
