"""From gids to the pixels of a pretrained network, on the host: decoded small, cut, not yet normalised.

Beside `loader`, which makes the views of training. Normalisation is left to the network's side
(`engine/inference`), so that a picture travels as bytes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rayscan.config import ImagesConfig
from rayscan.config.preprocessing import Preprocessing
from rayscan.data.cached_files import cache_for
from rayscan.data.central_crop import central_crop, short_side
from rayscan.data.decode import Pixels
from rayscan.data.freed_memory import keep_freed_memory
from rayscan.data.reader import Reader
from rayscan.data.table import ImageTable
from rayscan.types import Ints

ENCODED_BYTES = 64_000_000  # files in memory at a time


class PictureLoader:
    """Pictures by gid as a pretrained network wants them; their bits do not depend on the batch."""

    def __init__(
        self,
        table: ImageTable,
        images: ImagesConfig,
        preprocessing: Preprocessing,
        device: str | torch.device = "cpu",
    ) -> None:
        """Nothing is read yet. On a CPU, the process keeps the memory it frees from here on.

        Args:
            table: Where the images lie.
            images: Threads and cache.
            preprocessing: Sides and interpolation of the network.
            device: Where the pixels go: for a GPU they come in pinned memory.
        """
        self._table, self._images, self._wanted = table, images, preprocessing
        self._is_pinned = torch.device(device).type == "cuda"
        if not self._is_pinned:
            keep_freed_memory()
        self._reader = Reader(table, cache_for(table, images))

    def expect(self, gids: Ints) -> None:
        """Images whose shards come soon: remote ones are fetched in the background."""
        self._reader.expect(gids)

    def pictures(self, gids: Ints) -> Tensor:
        """Pixels of images.

        At most `images.decode_threads` decoded pictures and ENCODED_BYTES of files (or one) are in memory.

        Args:
            gids: Images, int64 [B].

        Returns:
            uint8 [B, 3, S, S] RGB, in channels-last memory.

        Raises:
            DataError: an image cannot be read, or does not decode as it did at index time.
        """
        size = self._wanted.size_px
        pixels = torch.empty((len(gids), size, size, 3), dtype=torch.uint8, pin_memory=self._is_pinned)
        rows = pixels.numpy()
        sizes = np.cumsum(self._table.length[gids])
        for part in np.split(np.arange(len(gids)), np.flatnonzero(np.diff((sizes - 1) // ENCODED_BYTES)) + 1):
            self._fill(rows, part, gids)
        return pixels.permute(0, 3, 1, 2)

    def _fill(self, rows: Pixels, part: Ints, gids: Ints) -> None:
        def use(number: int, picture: Pixels) -> None:
            row = part[number]
            height, width = int(self._table.height[gids[row]]), int(self._table.width[gids[row]])
            rows[row] = central_crop(picture, height, width, self._wanted)

        threads = self._images.decode_threads
        self._reader.each(gids[part], use, threads=threads, min_px=short_side(self._wanted))
