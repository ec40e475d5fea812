"""Whether shards still are what was indexed: every byte hashed, every image checksummed. For `doctor`.

A flipped bit in a JPEG decodes without a complaint from any library; only a checksum that was taken earlier
finds it. Nothing is repaired or written here.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa

from rayscan import storage
from rayscan.artifacts import Artifact
from rayscan.data.listing import Map
from rayscan.data.local_files import unreadable
from rayscan.data.sequential import SequentialFile
from rayscan.data.sources import named_format
from rayscan.data.sources.base import Images, Rows
from rayscan.data.table import IMAGES, SHARDS
from rayscan.errors import DataError

ROWS_AT_ONCE = 64
"""Images held in memory at a time."""
_COLUMNS = ["key", "shard", "offset", "length", "crc32"]


class Expected(NamedTuple):
    """What the index says of one shard, or of one image that is a file."""

    uri: str
    size: int
    """Bytes."""
    sha256: str
    """Empty for an image that is a file of its own: its crc32 covers it."""
    rows: pa.Table
    """Its images: key, offset, length, crc32, in any order."""


class Finding(NamedTuple):
    """Something that is not as it was indexed."""

    shard: str
    """Address of the shard or file."""
    key: str
    """Key of the image; empty where no image is touched."""
    what: str
    """What is wrong, in words."""

    def __str__(self) -> str:
        """One line, whatever characters the key has."""
        return f"{self.shard!a}{f' key {self.key!a}' if self.key else ''}: {self.what}"


def verify_shard(expected: Expected) -> list[Finding]:
    """Read a shard through and compare.

    Args:
        expected: Size, hash and images as indexed.

    Returns:
        One finding per image that changed or is gone, and one for the shard if nothing finer can be said;
        empty if every byte is as it was.
    """
    (found,) = storage.stat([expected.uri])
    if found.size == storage.MISSING:
        return [Finding(expected.uri, "", "missing")]
    try:
        images, size, sha256 = _images(expected)
    except DataError as error:
        return [Finding(expected.uri, "", str(error).replace("\n", ";"))]
    findings = images
    if size != expected.size:
        findings = [Finding(expected.uri, "", f"{size:,} bytes, {expected.size:,} indexed"), *findings]
    elif expected.sha256 and sha256 != expected.sha256 and not images:
        findings = [Finding(expected.uri, "", "bytes between the images changed: sha256 differs")]
    return findings


def _images(expected: Expected) -> tuple[list[Finding], int, str]:
    """Findings about the images of a shard, its size and its sha256."""
    columns = {name: expected.rows[name].to_numpy() for name in ("offset", "length", "crc32")}
    keys = expected.rows["key"].to_pylist()
    form, findings = named_format(expected.uri), []
    order = np.argsort(columns["offset"], kind="stable")
    with SequentialFile(expected.uri, is_hashing=bool(expected.sha256)) as file:
        for start in range(0, len(order), ROWS_AT_ONCE):
            rows = order[start : start + ROWS_AT_ONCE]
            wanted = Rows(np.zeros(len(rows), np.int64), columns["offset"][rows], columns["length"][rows])
            images = form.read(_Forward(file), wanted).data
            for row, data in zip(rows.tolist(), images, strict=True):
                if len(data) != columns["length"][row]:
                    findings.append(
                        Finding(expected.uri, keys[row], "cut off: the shard ends before it does")
                    )
                elif zlib.crc32(data) != columns["crc32"][row]:
                    findings.append(
                        Finding(expected.uri, keys[row], "other bytes than indexed: crc32 differs")
                    )
        file.seek_forward(file.size)
        return findings, file.size, file.sha256


class _Forward:
    """Implements `sources.base.Files` for one file that is read forwards, so that it is read once in all.

    Ranges that overlap those before, as images of a Parquet file that are equal, are read once more.
    """

    def __init__(self, file: SequentialFile) -> None:
        self._file = file
        self._last = (-1, b"")

    def ranges(self, rows: Rows) -> Images:
        """See `Files.ranges`."""
        data = []
        for offset, length in zip(rows.offset.tolist(), rows.length.tolist(), strict=True):
            if offset == self._last[0]:  # links share the bytes of their image
                data.append(self._last[1][:length])
            elif offset < self._file.position:
                data.append(self._again(offset, length))
            else:
                self._file.seek_forward(offset)
                self._last = (offset, self._file.read(length))
                data.append(self._last[1])
        return Images(data, np.zeros(len(data), np.int64))

    def _again(self, offset: int, length: int) -> bytes:
        """Bytes that have passed already."""
        stream, _ = self.open(0)
        with stream:
            try:
                stream.seek(offset)
                return stream.read(length)
            except OSError as error:
                raise unreadable(self._file.uri, offset, error) from error

    def open(self, shard: int) -> tuple[BinaryIO, int]:
        """See `Files.open`."""
        try:
            return storage.open_file(self._file.uri), 0
        except OSError as error:
            raise unreadable(self._file.uri, 0, error) from error


def expected_shards(index: Artifact) -> Iterator[Expected]:
    """What an index says of every shard or file."""
    rows = index.read_table(IMAGES, columns=_COLUMNS)
    rows = rows.take(np.argsort(rows["shard"].to_numpy(), kind="stable"))
    numbers = rows["shard"].to_numpy()
    for shard in index.read_table(SHARDS).to_pylist():
        first, stop = np.searchsorted(numbers, [shard["shard"], shard["shard"] + 1])
        part = rows.slice(int(first), int(stop - first)).drop_columns(["shard"])
        yield Expected(shard["uri"], shard["bytes"], shard["sha256"], part)


def compare(index: Artifact, apply: Map) -> list[Finding]:
    """Everything that is not as it was indexed.

    Args:
        index: What was indexed.
        apply: Maps a function over the shards, here or on the fleet.
    """
    findings: list[list[Finding]] = apply(verify_shard, list(expected_shards(index)))
    return [finding for part in findings for finding in part]
