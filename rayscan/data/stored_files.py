"""The files of an index, read by byte range. Between `reader`, which knows gids, and storage.

Requests are sorted by shard and position and near ones joined (`reads`). Local shards, and remote ones in the
node's cache, are read by `os.pread` (`local_files`, `cached_files`), other remote ones by ranges.
"""

from __future__ import annotations

import io
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

import numpy as np

from rayscan.data.cached_files import CachedFiles
from rayscan.data.local_files import LocalFiles, unreadable
from rayscan.data.node_cache import NodeCache
from rayscan.data.reads import Reads, plan_reads
from rayscan.data.sources.base import Images, Rows
from rayscan.data.table import ImageTable
from rayscan.storage import RangeStream, RemoteFile
from rayscan.types import Ints

LOCAL_GAP = 4 << 10
"""Bytes that are cheaper to read and drop than to start another read."""
LONGEST_LOCAL_READ = 256 << 10
LOCAL_JOINED = 16 << 10
"""Longer local images are read by themselves: cutting them out of a longer read would copy them once more."""
REPEATS_ONLY = -1
REMOTE_THREADS = 16
REMOTE_GAP = 128 << 10
LONGEST_REMOTE_READ = 8 << 20
MAX_OPEN_REMOTE = 128


class StoredFiles:
    """Implements `sources.base.Files` for any number of files. Many threads may use it, one process."""

    def __init__(self, table: ImageTable, cache: NodeCache | None) -> None:
        """Nothing is opened yet.

        Args:
            table: The index.
            cache: Holds remote shards on this node; without it they are read by range.
        """
        self._uris = table.shard_uris
        self._cached = CachedFiles(table, cache)
        self._local = LocalFiles(self._cached.open)
        self._remote: OrderedDict[int, RemoteFile] = OrderedDict()
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None

    def expect(self, shards: Iterable[int]) -> None:
        """Have remote shards fetched in the background, in this order."""
        self._cached.expect(shards)

    def ranges(self, rows: Rows) -> Images:
        """See `Files.ranges`."""
        images = Images([b""] * len(rows.shard), np.zeros(len(rows.shard), np.int64))
        remote = self._from_files(rows, images)
        if len(remote):
            self._by_request(rows, remote, images)
        return images

    def open(self, shard: int) -> tuple[BinaryIO, int]:
        """See `Files.open`."""
        if (opened := self._local.get(shard)) is not None:
            stream, number = RangeStream(opened.read, opened.size()), opened.number
        else:
            remote = self._remote_file(shard)
            try:
                stream, number = RangeStream(remote.read, remote.size()), 0
            except OSError as error:
                raise unreadable(remote.uri, 0, error) from error
        return io.BufferedReader(stream, LONGEST_LOCAL_READ), number

    def _from_files(self, rows: Rows, images: Images) -> Ints:
        """Read rows from files, shard after shard; returns those rows that lie in no file here."""
        left = []
        reads = planned(rows, LOCAL_GAP, LONGEST_LOCAL_READ)
        starts = np.flatnonzero(np.diff(reads.shard, prepend=-1)).tolist()
        order, data = reads.order, images.data
        for begin, end in zip(starts, [*starts[1:], len(reads.shard)], strict=False):
            shard = int(reads.shard[begin])
            bounds = reads.bounds[begin : end + 1].tolist()
            if (opened := self._local.get(shard)) is None:
                left.append(order[bounds[0] : bounds[-1]])
                continue
            descriptor, pread = opened.descriptor, os.pread
            firsts, lengths = reads.first[begin:end].tolist(), (reads.stop - reads.first)[begin:end].tolist()
            at = 0
            try:
                for at, length, one, after in zip(firsts, lengths, bounds, bounds[1:], strict=False):
                    read = pread(descriptor, length, at)
                    if len(read) != length:
                        read = opened.rest(read, at, length)
                    if after - one == 1:
                        data[order[one]] = read
                    else:
                        _share(read, at, rows, order[one:after], data)
            except OSError as error:
                raise unreadable(self._uris[shard], at, error) from error
            images.openings[order[bounds[0] : bounds[-1]]] = opened.number
        return np.concatenate(left) if left else np.zeros(0, np.int64)

    def _by_request(self, rows: Rows, asked: Ints, images: Images) -> None:
        """Read some rows by requests to their stores, many at once."""
        reads = planned(Rows(*(column[asked] for column in rows)), REMOTE_GAP, LONGEST_REMOTE_READ)
        order = asked[reads.order]
        ranges = list(zip(reads.shard.tolist(), reads.first.tolist(), reads.stop.tolist(), strict=True))
        for number, data in enumerate(self._pool().map(lambda one: self._request(*one), ranges)):
            members = order[reads.bounds[number] : reads.bounds[number + 1]]
            _share(data, ranges[number][1], rows, members, images.data)

    def _request(self, shard: int, first: int, stop: int) -> bytes:
        try:
            return self._remote_file(shard).read(first, stop)
        except OSError as error:
            raise unreadable(self._uris[shard], first, error) from error

    def _remote_file(self, shard: int) -> RemoteFile:
        with self._lock:
            opened = self._remote.pop(shard, None) or RemoteFile(self._uris[shard])
            self._remote[shard] = opened  # the last used is the last to go
            if len(self._remote) > MAX_OPEN_REMOTE:
                self._remote.popitem(last=False)
        return opened

    def _pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(REMOTE_THREADS, thread_name_prefix="rayscan-read")
            return self._threads


def planned(rows: Rows, gap: int, longest: int) -> Reads:
    """The reads that bring some rows.

    Args:
        rows: What is wanted.
        gap: Bytes between images that are read together; longer local images are read by themselves.
        longest: Bytes of a read at most.
    """
    is_joined = rows.length <= (LOCAL_JOINED if gap == LOCAL_GAP else longest)
    gaps = np.where(is_joined, gap, REPEATS_ONLY)
    return plan_reads(rows.shard, rows.offset, rows.length, gaps, longest)


def _share(read: bytes, first: int, rows: Rows, members: Ints, data: list[bytes]) -> None:
    """Cut what one read brought into its images."""
    starts = rows.offset[members] - first
    stops = starts + rows.length[members]
    for row, start, stop in zip(members.tolist(), starts.tolist(), stops.tolist(), strict=True):
        data[row] = read[start:stop]
