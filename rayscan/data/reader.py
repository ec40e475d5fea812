"""Bytes and pixels of images by gid, in any order. From the index (`table`) to `loader`, assign and report.

Local shards are read by `os.pread` at the indexed position: no shared position, many threads at once.
Remote ones are read by range, near ranges joined, several at a time. Every read is checked against the
checksum of the index: what was looked at then is what comes now, or a DataError.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from rayscan.data.addresses import is_remote, locate
from rayscan.data.decode import Pixels, decode
from rayscan.data.table import ImageTable
from rayscan.errors import DataError

MAX_OPEN = 128
REMOTE_THREADS = 16
REMOTE_GAP = 128 << 10
REMOTE_SPAN = 8 << 20

Gids = npt.NDArray[np.int64]
Integers = npt.NDArray[np.integer]


class _File(Protocol):
    def read(self, offset: int, length: int) -> bytes:
        """Bytes from an offset; fewer at the end of the file."""


class _LocalFile:
    """A descriptor that closes itself when the last thread that reads from it lets go."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, offset: int, length: int) -> bytes:
        data = os.pread(self._descriptor, length, offset)
        while len(data) < length and (
            more := os.pread(self._descriptor, length - len(data), offset + len(data))
        ):
            data += more
        return data

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)


class _RemoteFile:
    """A range reader of an object."""

    def __init__(self, uri: str) -> None:
        filesystem, path = locate(uri)
        self._file = filesystem.open_input_file(path)

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self._file.read_at(length, offset))


class _Span(NamedTuple):
    """Neighboring images of one shard that are fetched at once."""

    shard: int
    first: int
    stop: int
    rows: list[int]
    """Positions in the request."""


class Reader:
    """Images of an index by gid. Many threads may use it; it travels to processes without its open files."""

    def __init__(self, table: ImageTable) -> None:
        """Nothing is opened yet."""
        self.table = table
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._open: OrderedDict[int, _File] = OrderedDict()
        self._pools: dict[int, ThreadPoolExecutor] = {}

    def __reduce__(self) -> tuple[object, ...]:
        """Travel as the index alone."""
        return (Reader, (self.table,))

    def read(self, gids: npt.ArrayLike) -> list[bytes]:
        """The stored files of images.

        Args:
            gids: Rows of the index [n], in any order, repeats allowed.

        Returns:
            n files, in the order asked.

        Raises:
            DataError: a shard is missing, cut or not what was indexed.
        """
        asked = self._checked(gids)
        shard, offset, length = self.table.shard[asked], self.table.offset[asked], self.table.length[asked]
        order = np.lexsort((offset, shard))
        spans = self._spans(order, shard, offset, length)
        results: list[bytes] = [b""] * len(asked)
        for span, data in self._fetch(spans):
            for row in span.rows:
                start = int(offset[row]) - span.first
                results[row] = data[start : start + int(length[row])]
                if (
                    zlib.crc32(results[row]) != self.table.crc32[asked[row]]
                    or len(results[row]) != length[row]
                ):
                    raise self._changed(int(asked[row]), f"{len(results[row]):,} bytes of other content")
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
        asked = self._checked(gids)
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

    def _checked(self, gids: npt.ArrayLike) -> Gids:
        asked = np.asarray(gids, dtype=np.int64).reshape(-1)
        if len(asked) and not 0 <= asked.min() <= asked.max() < len(self.table):
            raise DataError(
                "there is no such image",
                expected=f"gid in 0..{len(self.table) - 1}",
                got=(asked.min(), asked.max()),
            )
        return asked

    def _spans(self, order: Gids, shard: Integers, offset: Integers, length: Integers) -> list[_Span]:
        """Join what lies near together: round trips cost more than bytes on remote storage, never locally."""
        spans: list[_Span] = []
        starts, stops = offset[order].tolist(), (offset + length)[order].tolist()
        for row, number, start, stop in zip(
            order.tolist(), shard[order].tolist(), starts, stops, strict=True
        ):
            last = spans[-1] if spans else None
            gap = REMOTE_GAP if is_remote(self.table.shard_uris[number]) else 0
            if (
                last is None
                or last.shard != number
                or start - last.stop > gap
                or stop - last.first > REMOTE_SPAN
            ):
                spans.append(_Span(number, start, stop, [row]))
            else:
                last.rows.append(row)
                spans[-1] = last._replace(stop=stop)
        return spans

    def _fetch(self, spans: Sequence[_Span]) -> Iterable[tuple[_Span, bytes]]:
        remote = [span for span in spans if is_remote(self.table.shard_uris[span.shard])]
        yield from ((s, self._bytes(s)) for s in spans if not is_remote(self.table.shard_uris[s.shard]))
        if remote:
            yield from zip(remote, self._pool(REMOTE_THREADS).map(self._bytes, remote), strict=True)

    def _bytes(self, span: _Span) -> bytes:
        uri = self.table.shard_uris[span.shard]
        try:
            return self._file(span.shard, uri).read(span.first, span.stop - span.first)
        except OSError as error:
            raise DataError(
                "images cannot be read",
                expected="the file that was indexed",
                got=error,
                where=f"{uri} at byte {span.first:,}",
                fix="put the file back, or index again",
            ) from error

    def _file(self, shard: int, uri: str) -> _File:
        self._wake()
        with self._lock:
            if (known := self._open.get(shard)) is not None:
                self._open.move_to_end(shard)
                return known
        opened: _File = _RemoteFile(uri) if is_remote(uri) else _LocalFile(uri)
        with self._lock:
            self._open[shard] = opened
            if len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)
        return opened

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
