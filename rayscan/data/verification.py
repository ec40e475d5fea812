"""Whether shards still are what was indexed: every byte hashed, every image checksummed. For `doctor`.

A flipped bit in a JPEG decodes without a complaint from any library; only a checksum that was taken earlier
finds it. Nothing is repaired or written here.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from rayscan.data import addresses
from rayscan.data.tar_members import Tape
from rayscan.errors import DataError


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
    (found,) = addresses.stat([expected.uri])
    if found.size == addresses.MISSING:
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
    rows = {name: expected.rows[name].to_numpy() for name in ("offset", "length", "crc32")}
    keys = expected.rows["key"].to_pylist()
    findings = []
    with Tape(expected.uri, is_hashing=bool(expected.sha256)) as tape:
        for row in np.argsort(rows["offset"], kind="stable").tolist():
            tape.forward(int(rows["offset"][row]))
            data = tape.read(int(rows["length"][row]))
            if len(data) != rows["length"][row]:
                findings.append(Finding(expected.uri, keys[row], "cut off: the shard ends before it does"))
            elif zlib.crc32(data) != rows["crc32"][row]:
                findings.append(Finding(expected.uri, keys[row], "other bytes than indexed: crc32 differs"))
        tape.forward(tape.size)
        return findings, tape.size, tape.sha256
