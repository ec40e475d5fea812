"""Bytes and pixels of images by gid, in any order. From the index (`table`) to `loader`, assign and report.

Requests are sorted by shard and position and near ones joined (`spans`). Local shards are read by `os.pread`
(`local_files`), remote ones by range or from the node's cache (`remote`). What comes is checked against the
checksums of the index: remote bytes always, local ones when an image is read for the first time since its
shard was opened. What was looked at at index time is what comes, or a DataError.
"""

from __future__ import annotations

import os
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rayscan.data.decode import Pixels, decode
from rayscan.data.keyed import Integers
from rayscan.data.local_files import LocalFiles, unreadable
from rayscan.data.node_cache import NodeCache
from rayscan.data.remote import RemoteFiles
from rayscan.data.shard_opening import ShardOpener
from rayscan.data.spans import Spans, plan_spans
from rayscan.data.table import ImageTable
from rayscan.errors import DataError

LOCAL_GAP = 4 << 10
"""Bytes that are cheaper to read and drop than to start another read."""
LOCAL_SPAN = 256 << 10
LOCAL_JOINED = 16 << 10
"""Longer local images are read by themselves: cutting them out of a longer read would copy them once more."""
REPEATS_ONLY = -1
REMOTE_THREADS = 16
REMOTE_GAP = 128 << 10
REMOTE_SPAN = 8 << 20


class Reader:
    """Images of an index by gid. Many threads may use it; it travels to processes without its open files."""

    def __init__(self, table: ImageTable, cache: NodeCache | None = None) -> None:
        """Nothing is opened yet.

        Args:
            table: Where the images lie.
            cache: Holds remote shards on this node; without it they are read by range.
        """
        self.table = table
        self._opener = ShardOpener(table, cache)
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._local = LocalFiles(self._opener.open)
        self._remote = RemoteFiles(self.table.shard_uris)
        self._pools: dict[int, ThreadPoolExecutor] = {}
        self._checked_at = np.zeros(len(self.table), np.int32)
        """Opening of its shard under which each image was found to be what was indexed."""

    def __reduce__(self) -> tuple[object, ...]:
        """Travel as the index and the place of the cache."""
        cache = self._opener.cache
        return (_again, (self.table, cache and (str(cache.folder), cache.max_bytes)))

    def expect(self, gids: npt.ArrayLike) -> None:
        """Images that will be asked for soon: shards that are not here are fetched in the background."""
        self._opener.expect(dict.fromkeys(self.table.shard[self._known(gids)].tolist()))

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
        results: list[bytes] = [b""] * len(asked)
        rest = self._read_files(asked, np.arange(len(asked)), results)
        if len(rest):
            self._read_ranges(asked, rest, results)
        return results

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
        asked = self._known(gids)
        if not self.table.is_ok[asked].all():
            bad = asked[~self.table.is_ok[asked]]
            raise DataError(
                "images are in quarantine", expected="usable images", got=f"gid {bad[0]}", where="index"
            )
        jobs = zip(self.read(asked), asked.tolist(), strict=True)
        if threads <= 1 or len(asked) < 2:
            return [self._decoded(job) for job in jobs]
        return list(self._pool(threads).map(self._decoded, jobs))

    def _decoded(self, job: tuple[bytes, int]) -> Pixels:
        data, gid = job
        size = int(self.table.height[gid]), int(self.table.width[gid])
        try:
            pixels = decode(data, max_pixels=size[0] * size[1])
        except DataError as error:
            raise self._changed(gid, f"it does not decode: {error}") from error
        if pixels.shape[:2] != size:
            raise self._changed(
                gid, f"{pixels.shape[1]} x {pixels.shape[0]} px, {size[1]} x {size[0]} indexed"
            )
        return pixels

    def _known(self, gids: npt.ArrayLike) -> Integers:
        asked = np.asarray(gids, dtype=np.int64).reshape(-1)
        if len(asked) and not 0 <= asked.min() <= asked.max() < len(self.table):
            raise DataError(
                "there is no such image",
                expected=f"gid in 0..{len(self.table) - 1}",
                got=(asked.min(), asked.max()),
            )
        return asked

    def _spans(self, asked: Integers, gap: int, longest: int) -> Spans:
        length = self.table.length[asked]
        is_joined = length <= (LOCAL_JOINED if gap == LOCAL_GAP else longest)
        gaps = np.where(is_joined, gap, REPEATS_ONLY)
        return plan_spans(self.table.shard[asked], self.table.offset[asked], length, gaps, longest)

    def _read_files(self, asked: Integers, rows: Integers, results: list[bytes]) -> Integers:
        """Read rows of a request from files, shard after shard; returns those that lie in no file here."""
        left = []
        spans = self._spans(asked[rows], LOCAL_GAP, LOCAL_SPAN)
        starts = np.flatnonzero(np.diff(spans.shard, prepend=-1)).tolist()
        order = rows[spans.order]
        for begin, end in zip(starts, [*starts[1:], len(spans.shard)], strict=False):
            shard = int(spans.shard[begin])
            bounds = spans.bounds[begin : end + 1].tolist()
            if (opened := self._local.get(shard)) is None:
                left.append(order[bounds[0] : bounds[-1]])
                continue
            descriptor, pread = opened.descriptor, os.pread
            firsts, lengths = spans.first[begin:end].tolist(), (spans.stop - spans.first)[begin:end].tolist()
            at = 0
            try:
                for at, length, one, after in zip(firsts, lengths, bounds, bounds[1:], strict=False):
                    data = pread(descriptor, length, at)
                    if len(data) != length:
                        data = opened.rest(data, at, length)
                    if after - one == 1:
                        results[order[one]] = data
                    else:
                        self._share(data, at, asked, order[one:after], results)
            except OSError as error:
                raise unreadable(self.table.shard_uris[shard], at, error) from error
            self._check(asked, order[bounds[0] : bounds[-1]], results, opened.number)
        return np.concatenate(left) if left else np.zeros(0, np.int64)

    def _read_ranges(self, asked: Integers, rows: Integers, results: list[bytes]) -> None:
        spans = self._spans(asked[rows], REMOTE_GAP, REMOTE_SPAN)
        order = rows[spans.order]
        ranges = list(zip(spans.shard.tolist(), spans.first.tolist(), spans.stop.tolist(), strict=True))
        pool = self._pool(REMOTE_THREADS)
        for number, data in enumerate(pool.map(lambda r: self._remote.read(*r), ranges)):
            members = order[spans.bounds[number] : spans.bounds[number + 1]]
            self._share(data, ranges[number][1], asked, members, results)
            self._check(asked, members, results, 0)

    def _share(
        self, data: bytes, first: int, asked: Integers, members: Integers, results: list[bytes]
    ) -> None:
        """Cut what one read brought into its images."""
        starts = self.table.offset[asked[members]] - first
        stops = starts + self.table.length[asked[members]]
        for row, start, stop in zip(members.tolist(), starts.tolist(), stops.tolist(), strict=True):
            results[row] = data[start:stop]

    def _check(self, asked: Integers, members: Integers, results: list[bytes], opening: int) -> None:
        """Compare with the index what has not been compared since its shard was opened; 0 compares all."""
        gids = asked[members]
        lengths = self.table.length[gids].tolist()
        rows = members.tolist()
        if [len(results[row]) for row in rows] != lengths:
            row = next(r for r, n in zip(rows, lengths, strict=True) if len(results[r]) != n)
            raise self._changed(int(asked[row]), f"{len(results[row]):,} bytes")
        if opening and (self._checked_at[gids] == opening).all():
            return
        for row, gid, expected in zip(rows, gids.tolist(), self.table.crc32[gids].tolist(), strict=True):
            if zlib.crc32(results[row]) != expected:
                raise self._changed(gid, f"{len(results[row]):,} bytes of other content")
        if opening:
            self._checked_at[gids] = opening

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
