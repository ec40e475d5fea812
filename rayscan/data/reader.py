"""Bytes and pixels of images by gid, in any order. From the index (`table`) to `loader`, assign and report.

The format of a shard (`sources`) reads its images through `stored_files`. What comes is checked against the
checksums of the index: remote bytes always, local ones when an image is read for the first time since its
shard was opened. What was decoded at index time is what comes, or a DataError.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rayscan.data import sources
from rayscan.data.decode import Pixels, decode, reduction
from rayscan.data.node_cache import NodeCache
from rayscan.data.reduced_scale import JPEG_STEPS
from rayscan.data.sources.base import Images, Rows
from rayscan.data.stored_files import StoredFiles
from rayscan.data.table import ImageTable
from rayscan.errors import DataError
from rayscan.types import Ints

UNKNOWN = -1


class Reader:
    """Images of an index by gid. Many threads may use it; it travels to processes without its open files."""

    def __init__(self, table: ImageTable, cache: NodeCache | None = None) -> None:
        """Nothing is opened yet.

        Args:
            table: Where the images lie.
            cache: Holds remote shards on this node; without it they are read by range.
        """
        self.table = table
        self._cache = cache
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._files = StoredFiles(self.table, self._cache)
        self._pools: dict[int, ThreadPoolExecutor] = {}
        self._formats = np.full(len(self.table.shard_uris), UNKNOWN, np.int8)
        """Row of `FORMATS` of each shard that was read."""
        self._checked_at = np.zeros(len(self.table), np.int32)
        """Opening of its shard under which each image was found to be what was indexed."""

    def __reduce__(self) -> tuple[object, ...]:
        """Travel as the index and the place of the cache."""
        cache = self._cache
        return (_again, (self.table, cache and (str(cache.folder), cache.max_bytes)))

    def expect(self, gids: npt.ArrayLike) -> None:
        """Images that will be asked for soon: shards that are not here are fetched in the background."""
        self._files.expect(dict.fromkeys(self.table.shard[self._known(gids)].tolist()))

    def read(self, gids: npt.ArrayLike) -> list[bytes]:
        """The stored files of images.

        Args:
            gids: Rows of the index [n], in any order, repeats allowed.

        Returns:
            n files, in the order asked.

        Raises:
            DataError: a shard is missing, cut or not what was indexed.
        """
        asked = self._known(gids)
        self._wake()
        table = self.table
        images = self._read(
            Rows(table.shard[asked].astype(np.int64), table.offset[asked], table.length[asked])
        )
        self._check(asked, images)
        return images.data

    def _read(self, rows: Rows) -> Images:
        """The images of some rows, each read by the format of its shard."""
        formats = self._formats[rows.shard]
        if (formats == UNKNOWN).any():
            for shard in np.unique(rows.shard[formats == UNKNOWN]).tolist():
                known = sources.named_format(self.table.shard_uris[shard])
                self._formats[shard] = sources.FORMATS.index(known)
            formats = self._formats[rows.shard]
        if len(formats) and (formats == formats[0]).all():
            return sources.FORMATS[int(formats[0])].read(self._files, rows)
        together = Images([b""] * len(formats), np.zeros(len(formats), np.int64))
        for number in np.unique(formats).tolist():
            chosen = np.flatnonzero(formats == number)
            part = sources.FORMATS[number].read(self._files, Rows(*(column[chosen] for column in rows)))
            together.openings[chosen] = part.openings
            for row, data in zip(chosen.tolist(), part.data, strict=True):
                together.data[row] = data
        return together

    def images(self, gids: npt.ArrayLike, threads: int = 1) -> list[Pixels]:
        """The pictures of images.

        Args:
            gids: Rows of the index [n], none in quarantine.
            threads: Decoding threads.

        Returns:
            n arrays uint8 [h, w, 3], in the order asked.

        Raises:
            DataError: an image cannot be read, or does not decode as it did at index time.
        """
        found: list[Pixels | None] = [None] * len(np.asarray(gids).reshape(-1))

        def use(row: int, picture: Pixels) -> None:
            found[row] = picture

        self.each(gids, use, threads=threads)
        return [picture for picture in found if picture is not None]

    def each(
        self,
        gids: npt.ArrayLike,
        use: Callable[[int, Pixels], None],
        *,
        threads: int = 1,
        min_px: int | None = None,
    ) -> None:
        """Decode pictures and use each at once, so that no more than `threads` of them are in memory.

        Args:
            gids: Rows of the index [n], none in quarantine.
            use: Called in a decoding thread with the position in `gids` and the picture, uint8 [h, w, 3].
            threads: Decoding threads.
            min_px: Short side that is enough, px: large JPEGs come reduced (`decode`). None: whole.

        Raises:
            DataError: an image cannot be read, or does not decode as it did at index time.
        """
        asked = self._usable(gids)
        data = self.read(asked)

        def job(rows: Sequence[int]) -> None:
            picture = self._decoded(data[rows[0]], int(asked[rows[0]]), min_px)
            for row in rows:
                use(row, self._crop(picture, int(asked[row])))

        jobs = self._together(asked)
        apply = map if threads <= 1 or len(jobs) < 2 else self._pool(threads).map
        for _ in apply(job, jobs):
            pass

    def _together(self, gids: Ints) -> Sequence[Sequence[int]]:
        """Positions in `gids`, those of crops of one picture together: it is decoded once."""
        if self.table.boxes is None:
            return [(row,) for row in range(len(gids))]
        rows: dict[tuple[int, int], list[int]] = {}
        places = zip(self.table.shard[gids].tolist(), self.table.offset[gids].tolist(), strict=True)
        for row, place in enumerate(places):
            rows.setdefault(place, []).append(row)
        return list(rows.values())

    def _crop(self, picture: Pixels, gid: int) -> Pixels:
        if self.table.boxes is None:
            return picture
        left, top, right, bottom = self.table.boxes[gid, :4].tolist()
        return np.ascontiguousarray(picture[top:bottom, left:right])

    def _usable(self, gids: npt.ArrayLike) -> Ints:
        asked = self._known(gids)
        if not self.table.is_ok[asked].all():
            bad = asked[~self.table.is_ok[asked]]
            raise DataError(
                "images are in quarantine", expected="usable images", got=f"gid {bad[0]}", where="index"
            )
        return asked

    def _decoded(self, data: bytes, gid: int, min_px: int | None) -> Pixels:
        size = int(self.table.height[gid]), int(self.table.width[gid])
        if self.table.boxes is not None:  # whole: boxes are in its pixels
            width, height = self.table.boxes[gid, 4:].tolist()
            size, min_px = (height, width), None
        try:
            pixels = decode(data, max_pixels=size[0] * size[1], min_px=min_px, how=self.table.decoding)
        except DataError as error:
            raise self._changed(gid, f"it does not decode: {error}") from error
        most = 1 if min_px is None else reduction(*size, min_px)
        # One that is reduced already, for its size, may be reduced less than asked.
        sizes = [(-(-size[0] // by), -(-size[1] // by)) for by in JPEG_STEPS if by <= most]
        if pixels.shape[:2] not in sizes:
            raise self._changed(
                gid, f"{pixels.shape[1]} x {pixels.shape[0]} px, {size[1]} x {size[0]} indexed"
            )
        return pixels

    def _known(self, gids: npt.ArrayLike) -> Ints:
        asked = np.asarray(gids, dtype=np.int64).reshape(-1)
        if len(asked) and not 0 <= asked.min() <= asked.max() < len(self.table):
            raise DataError(
                "there is no such image",
                expected=f"gid in 0..{len(self.table) - 1}",
                got=(asked.min(), asked.max()),
            )
        return asked

    def _check(self, gids: Ints, images: Images) -> None:
        """Compare with the index what has not been compared since its shard was opened."""
        lengths = np.fromiter(map(len, images.data), np.int64, len(gids))
        for row in np.flatnonzero(lengths != self.table.length[gids])[:1].tolist():
            raise self._changed(int(gids[row]), f"{lengths[row]:,} bytes")
        rows = np.flatnonzero((images.openings == 0) | (self._checked_at[gids] != images.openings))
        chosen = gids[rows]
        expected = self.table.crc32[chosen].tolist()
        for row, gid, crc32 in zip(rows.tolist(), chosen.tolist(), expected, strict=True):
            if zlib.crc32(images.data[row]) != crc32:
                raise self._changed(gid, f"{len(images.data[row]):,} bytes of other content")
        self._checked_at[chosen] = images.openings[rows]

    def _pool(self, threads: int) -> ThreadPoolExecutor:
        self._wake()
        with self._lock:
            if threads not in self._pools:
                self._pools[threads] = ThreadPoolExecutor(threads, thread_name_prefix="rayscan-read")
            return self._pools[threads]

    def _wake(self) -> None:
        if self._process != os.getpid():  # after a fork: descriptors, locks and threads are the parent's
            self._start()

    def _changed(self, gid: int, got: str) -> DataError:
        row = self.table
        return DataError(
            "an image is not what was indexed",
            expected=f"{row.length[gid]:,} bytes with crc32 {row.crc32[gid]:08x}",
            got=got,
            where=f"gid {gid}, {row.shard_uris[row.shard[gid]]} at byte {row.offset[gid]:,}",
            fix="put the original file back, or index again with a new --out",
        )


def _again(table: ImageTable, cache: tuple[str, int] | None) -> Reader:
    return Reader(table, None if cache is None else NodeCache(Path(cache[0]), cache[1]))
