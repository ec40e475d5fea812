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
from typing import Any, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from rayscan.config import ImagesConfig, ViewKind
from rayscan.data.cached_files import cache_for
from rayscan.data.decode import resize_canvas
from rayscan.data.freed_memory import keep_freed_memory
from rayscan.data.keyed import Draw
from rayscan.data.reader import Reader
from rayscan.data.table import ImageTable
from rayscan.data.views import fast_colors, is_colored_fast, make_views, view_boxes, view_flips
from rayscan.types import Ints

T = TypeVar("T")
Picture = npt.NDArray[np.uint8]

DECODED_BYTES = 256_000_000  # full pictures in memory at a time
# A CPU works best within its caches; a GPU wants few, large kernels.
CHUNK_FLOATS = {"cpu": 1 << 20, "cuda": 1 << 28}


class ViewLoader:
    """Views of images by gid: one (seed, epoch, gid, view) gives the same bits in any batch and process."""

    def __init__(
        self,
        table: ImageTable,
        images: ImagesConfig,
        seed: int,
        device: str | torch.device = "cpu",
        reader: Reader | None = None,
    ) -> None:
        """Nothing is read yet. On a CPU, the process keeps the memory it frees from here on.

        Args:
            table: Where the images lie.
            images: Sides, mean and standard deviation, memory and threads.
            seed: Seed of the run.
            device: Where the views are made and wanted.
            reader: What reads them, in the place of one of the table.
        """
        self._table, self._images, self._seed = table, images, seed
        self._device = torch.device(device)
        if self._device.type == "cpu":
            keep_freed_memory()
        self._reader = Reader(table, cache_for(table, images)) if reader is None else reader
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

    def views(
        self,
        gids: Ints,
        family: ViewKind,
        epoch: int,
        views: tuple[int, ...] = (0, 1),
        size_px: int | None = None,
    ) -> Tensor:
        """Augmented views.

        Args:
            gids: Images, int64 [B].
            family: Augmentation family.
            epoch: Pass over the data; another epoch gives other views.
            views: Numbers of the views (V); the same number gives the same view.
            size_px: Their side (S), where it is not the one of the settings.

        Returns:
            float32 [V, B, 3, S, S] on the device, normalized.

        Raises:
            DataError: an image cannot be read.
        """
        images = self._images if size_px is None else replace(self._images, size_px=size_px)
        size, draw = images.size_px, Draw(self._seed, epoch, gids, views)
        pixels, boxes = (
            (self._cut(draw, family, size), None)
            if images.canvas_px is None
            else self._whole(draw, family, size)
        )
        out = self._floats(len(views), len(gids), 3, size, size)
        is_fast = is_colored_fast(family, images)
        colors = (
            fast_colors(draw, size) if is_fast else None
        )  # once: it costs as much for few views as for many
        for part_views, part in self._parts(len(views), len(gids), max(size, pixels.shape[-1])):
            sources = pixels[part_views, part].to(self._device, non_blocking=True).flatten(0, 1)
            part_draw = replace(draw, gids=gids[part], views=views[part_views])
            where = None if boxes is None else boxes[part_views, part].reshape(-1, 4)
            target = out[part_views, part].view(-1, 3, size, size)
            first = part_views.start * len(gids) + part.start
            some = None if colors is None else colors[first : first + len(target)]
            make_views(sources, where, family, part_draw, images, out=target, colors=some)
        return out

    def cuts(self, gids: Ints, family: ViewKind, epoch: int, views: tuple[int, ...] = (0, 1)) -> Tensor:
        """Views before their colors: cut, scaled and mirrored from full pictures, uint8 [V, B, 3, S, S].

        This is what the host does for a device that colors; in pinned memory if that is a GPU.
        """
        return self._cut(Draw(self._seed, epoch, gids, views), family, self._images.size_px)

    def _parts(self, num_views: int, count: int, side: int) -> Iterator[tuple[slice, slice]]:
        """Pieces of [V, B] that lie in one piece of memory: whole, or runs of images of one view each."""
        step = max(1, CHUNK_FLOATS.get(self._device.type, CHUNK_FLOATS["cpu"]) // (3 * side**2))
        if step >= num_views * count:
            yield slice(0, num_views), slice(0, count)
            return
        for view in range(num_views):
            for start in range(0, count, step):
                yield slice(view, view + 1), slice(start, start + step)

    def _floats(self, *shape: int) -> Tensor:
        """Memory for views."""
        # NumPy asks for huge pages: page faults would cost more than the views
        if self._device.type == "cpu":
            return torch.from_numpy(np.empty(shape, np.float32))
        return torch.empty(shape, device=self._device)

    def expect(self, gids: Ints) -> None:
        """Images whose shards come soon: remote ones are fetched in the background."""
        self._reader.expect(gids)

    def plain(self, gids: Ints) -> Tensor:
        """The views images are embedded and judged by: float32 [B, 3, S, S], normalized."""
        return self.views(gids, "plain", 0, (0,))[0]

    def _whole(self, draw: Draw, family: ViewKind, size: int) -> tuple[Tensor, Ints]:
        """Canvases, uint8 [V, B, 3, c, c], and where in them the views lie [V, B, 4]."""
        shape = (len(draw.views), len(draw.gids))
        canvases = self._canvases(draw.gids)
        sides = np.full(shape[0] * shape[1], canvases.shape[-1])
        boxes = view_boxes(family, draw, sides, sides, size)
        return canvases.expand(shape[0], *canvases.shape), boxes.reshape(*shape, 4)

    def _canvases(self, gids: Ints) -> Tensor:
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

    def _decoded_canvases(self, gids: Ints) -> Tensor:
        side = self._images.canvas_px
        assert side is not None
        canvases = np.empty((len(gids), side, side, 3), np.uint8)
        row = 0
        for part in self._portions(gids):
            decoded = self._reader.images(part, self._images.decode_threads)
            if any(picture.shape[:2] != (side, side) for picture in decoded):
                decoded = list(self._pool.map(resize_canvas, decoded, repeat(side)))
            canvases[row : row + len(part)] = decoded
            row += len(part)
        return torch.from_numpy(canvases).permute(0, 3, 1, 2).contiguous()

    def _cut(self, draw: Draw, family: ViewKind, size: int) -> Tensor:
        """Views cut, scaled and mirrored from full pictures, uint8 [V, B, 3, S, S]."""
        # The threads that fill the memory are not in the caller's inference mode, nor may the memory be.
        with torch.inference_mode(mode=False):
            return self._cut_in_threads(draw, family, size)

    def _cut_in_threads(self, draw: Draw, family: ViewKind, size: int) -> Tensor:
        num_views = len(draw.views)
        cuts = self._host(num_views, len(draw.gids), 3, size, size)
        row = 0
        for part in self._portions(draw.gids):
            decoded = self._reader.images(part, self._images.decode_threads) * num_views
            heights, widths = np.array([picture.shape[:2] for picture in decoded]).T
            part_draw = replace(draw, gids=part)
            boxes, flips = view_boxes(family, part_draw, heights, widths, size), view_flips(family, part_draw)
            targets = [cuts[view, row + i] for view in range(num_views) for i in range(len(part))]
            self._each(cut_and_scale, decoded, boxes, flips, targets)
            row += len(part)
        return cuts

    def _host(self, *shape: int) -> Tensor:
        """Memory for pixels on their way to the device; pinned if that is a GPU, which fetches itself."""
        if self._device.type == "cuda":
            return torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        return torch.from_numpy(np.empty(shape, np.uint8))

    def _each(self, fn: Callable[..., None], *columns: Iterable[Any]) -> None:
        """Call `fn` with each row of these columns; in threads if there are several."""
        apply = map if self._images.decode_threads == 1 else self._pool.map
        for _ in apply(fn, *columns):
            pass

    def _portions(self, gids: Ints) -> list[Ints]:
        """Consecutive pieces whose decoded pictures stay within DECODED_BYTES (or are a single one)."""
        sizes = self._table.width[gids].astype(np.int64) * self._table.height[gids] * 3
        bins = (np.cumsum(sizes) - 1) // DECODED_BYTES
        return np.split(gids, np.flatnonzero(np.diff(bins)) + 1) if len(gids) else []


def cut_and_scale(picture: Picture, box: Ints, is_mirrored: bool, out: Tensor) -> None:
    """Cut a box (top, left, height, width), scale it into `out`, uint8 [3, S, S]; bilinear, antialiased."""
    top, left, height, width = (int(edge) for edge in box)
    size = out.shape[-1]
    picture = picture if picture.flags.writeable else picture.copy()  # torch takes no other
    cut = torch.from_numpy(picture).permute(2, 0, 1)[None, :, top : top + height, left : left + width]
    if (height, width) != (size, size):
        cut = interpolate(cut, (size, size), mode="bilinear", antialias=True)
    out.copy_(cut[0].flip(2) if is_mirrored else cut[0])


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
        """This prefetcher: its results can be gone through once."""
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
        """This prefetcher."""
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
