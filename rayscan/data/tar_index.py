"""One WebDataset tar, read once from end to end: where its images lie, what they are, whether it is whole.

A sample is the members of one key, side by side; the key is the path up to the first dot of the base name, as
in the webdataset library. Images are decoded once, `.json` is asked for its "source" and "crc32", and all
other members are passed over unread.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from rayscan.data.inspection import inspect
from rayscan.data.listing import IMAGE_EXTENSIONS
from rayscan.data.table import IMAGE_SCHEMA
from rayscan.data.tar_members import Member, Tape, members, storable
from rayscan.errors import DataError

MAX_NOTE_BYTES = 1 << 20
CHANGED = "checksum"
"""Status of an image whose bytes are not those that were packed."""

ROWS = pa.schema([IMAGE_SCHEMA.field(n) for n in IMAGE_SCHEMA.names if n not in ("gid", "split", "shard")])
"""What a scan tells of each image; the index stage adds gid, split and shard."""


@dataclass(frozen=True)
class ShardScan:
    """What one shard holds."""

    uri: str
    size: int
    """Bytes of the tar."""
    sha256: str
    rows: pa.Table
    """Schema `ROWS`, in the order of the tar."""
    members: Mapping[str, int]
    """How many members have the extensions `cls` and `json`, how many are `other`; and how many samples have
    no image, as `imageless`."""


@dataclass
class _Sample:
    """The members of one key, as far as they have been read."""

    key: str
    extensions: set[str] = field(default_factory=set)
    source: str | None = None
    crc32: int | None = None
    row: dict[str, Any] | None = None
    image: str = ""


def index_shard(uri: str, *, max_pixels: int) -> ShardScan:
    """Read a shard through: find, checksum and decode its images, hash the whole.

    Args:
        uri: A plain tar, local or remote.
        max_pixels: Images with more pixels are noted as bad, undecoded.

    Raises:
        DataError: the tar is damaged, a key comes twice or in pieces, or a sample has two images.
    """
    counts = Counter({"cls": 0, "json": 0, "other": 0})
    samples: dict[str, _Sample] = {}
    sample = _Sample("")
    with Tape(uri, is_hashing=True) as tape:
        for member in members(tape):
            if (named := member.key_and_extension) is None:
                counts["other"] += 1
                continue
            key, extension = named
            if key != sample.key:
                if key in samples:
                    raise _confused(tape, member, "this key was there before, with others in between")
                sample = samples.setdefault(key, _Sample(key))
            if extension in sample.extensions:
                raise _confused(tape, member, "this key has this extension already")
            sample.extensions.add(extension)
            _take(tape, member, extension, sample, counts, max_pixels)
        rows = [_row(s, s.row) for s in samples.values() if s.row is not None]
        counts["imageless"] = len(samples) - len(rows)
        return ShardScan(uri, tape.size, tape.sha256, pa.Table.from_pylist(rows, schema=ROWS), dict(counts))


def _take(
    tape: Tape, member: Member, extension: str, sample: _Sample, counts: Counter[str], max_pixels: int
) -> None:
    """Read one member into its sample."""
    if extension.rpartition(".")[2] in IMAGE_EXTENSIONS:
        if sample.row is not None:
            raise _confused(tape, member, f"this key has an image already, {sample.image}")
        data = tape.read(member.length)
        seen = inspect(data, max_pixels=max_pixels)
        sample.image = member.name
        sample.row = {
            "key": sample.key,
            "offset": member.offset,
            "length": member.length,
            "crc32": zlib.crc32(data),
            "source": f"{tape.uri}#{member.name}",
            **seen._asdict(),
        }
    elif extension == "json":
        counts["json"] += 1
        if member.length <= MAX_NOTE_BYTES:
            sample.source, sample.crc32 = _told(tape.read(member.length))
    elif extension != "txt":
        counts["cls" if extension == "cls" else "other"] += 1


def _row(sample: _Sample, row: dict[str, Any]) -> dict[str, Any]:
    """The row of a sample, once all its members were seen."""
    row = row | {"source": sample.source or row["source"]}
    if sample.crc32 is not None and sample.crc32 != row["crc32"]:
        row |= {"width": 0, "height": 0, "status": CHANGED}
    return row


def _told(data: bytes) -> tuple[str | None, int | None]:
    """The original path of an image and its checksum when it was packed, from the note beside it, if told."""
    try:
        note = json.loads(data)
        source, crc32 = note.get("source"), note.get("crc32")
    except (ValueError, AttributeError, RecursionError):  # notes are free text to others
        return None, None
    is_checksum = type(crc32) is int and 0 <= crc32 < 1 << 32
    return storable(source) if isinstance(source, str) and source else None, crc32 if is_checksum else None


def _confused(tape: Tape, member: Member, how: str) -> DataError:
    return DataError(
        "samples of a shard cannot be told apart",
        expected="one image per key, the members of a key side by side",
        got=how,
        where=f"{tape.uri}, member {member.name!a}",
        fix="write the shard again with unique keys; a key ends at the first dot of the base name",
    )
