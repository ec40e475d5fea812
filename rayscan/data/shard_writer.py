"""Samples -> WebDataset tar shards, for `packing` and the demo.

Equal input gives equal bytes: headers carry no time, owner or mode of their own, files go in by the order of
their paths. Shards appear whole or not at all, and one that is there with the same bytes is not touched.
Beside each image lies `key.json` with {"source": its path, "crc32": its checksum}, which the index reads
back. Labels stay out of the shards unless they are asked for.
"""

from __future__ import annotations

import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
from PIL import Image
from webdataset import TarWriter

from rayscan import parquet
from rayscan.data.decode import IMAGE_EXTENSIONS, decode
from rayscan.data.tar_members import Member
from rayscan.errors import DataError
from rayscan.storage import Place

SHARD_BYTES = 200_000_000
JPEG_QUALITY = 90
RESIZE_PX = 256
MAX_PIXELS = 1_000_000_000
LABELS = "labels.parquet"
_RESERVED = re.compile(r"__[^/]*__(/|$)")


class Sample(NamedTuple):
    """One image on its way into a shard."""

    key: str
    """Unique; no dot in its last component."""
    data: bytes
    """The image file."""
    extension: str
    """Its format, without a dot."""
    source: str
    """Where it came from, for people."""
    cls: int | None = None
    """Label to write as `key.cls`; normally none."""


@dataclass(frozen=True)
class ShardSummary:
    """What was written."""

    shards: tuple[str, ...]
    """Addresses."""
    images: int
    size: int
    """Bytes of all shards."""
    labels: str | None = None
    """Address of `labels.parquet`, if it was asked for."""
    classes: int = 0
    missing: int = 0
    """Images that a list names and that are not there."""

    def __str__(self) -> str:
        """One line for the terminal."""
        where = f"{self.shards[0]} .. {self.shards[-1].rpartition('/')[2]}" if self.shards else "nowhere"
        labels = f", {self.classes:,} classes in {self.labels}" if self.labels else ""
        labels += f", {self.missing:,} listed files are missing" if self.missing else ""
        return (
            f"{self.images:,} images, {self.size / 1e6:,.1f} MB, {len(self.shards):,} shards: {where}{labels}"
        )


def write_labels(place: Place, rows: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> str:
    """Write key, source, label and class of packed images; returns the address.

    Args:
        place: Where the shards lie.
        rows: With `key` and `source`, whose first folder is the class.
        classes: Names in the order of their numbers.
    """
    number_of = {name: number for number, name in enumerate(classes)}
    names = [row["source"].partition("/")[0] for row in rows]
    table = {
        "key": [row["key"] for row in rows],
        "source": [row["source"] for row in rows],
        "label": pa.array([number_of[name] for name in names], pa.int64()),
        "class": names,
    }
    place.write(LABELS, parquet.encoded(pa.table(table)))
    return place.uri_of(LABELS)


def write_samples(
    samples: Iterable[Sample | tuple[str, bytes, str, str]],
    out: str,
    prefix: str,
    *,
    shard_bytes: int = SHARD_BYTES,
    max_count: int | None = None,
) -> ShardSummary:
    """Write samples as `<prefix>-000000.tar`, ...; memory holds one shard.

    Args:
        samples: In the order they shall have.
        out: Folder, local or remote.
        prefix: Beginning of the file names.
        shard_bytes: Size at which a new shard begins.
        max_count: At most this many samples per shard.

    Returns:
        What was written.

    Raises:
        DataError: a key is used twice or would not be read back as it is, an extension is no image's, or
            `out` holds further shards of this prefix that are not part of this set.
    """
    place = Place(out)
    names: list[str] = []
    size = images = 0
    for shard in _shards(samples, shard_bytes, max_count):
        names.append(f"{prefix}-{len(names):06d}.tar")
        data = shard.close()
        if place.size(names[-1]) != len(data) or place.read(names[-1]) != data:
            place.write(names[-1], data)
        size, images = size + len(data), images + shard.count
    of_prefix = re.compile(re.escape(prefix) + r"-\d{6}\.tar")
    if extra := [name for name in place.names() if of_prefix.fullmatch(name) and name not in names]:
        raise DataError(
            "other shards lie in the way",
            expected=f"only the {len(names)} shards just written",
            got=", ".join(extra[:6]),
            where=place.uri,
            fix="remove them, or write to an empty folder",
        )
    return ShardSummary(tuple(place.uri_of(name) for name in names), images, size)


class Shard:
    """A tar in memory."""

    def __init__(self) -> None:
        """Begin an empty one."""
        self.count = 0
        self._buffer = io.BytesIO()
        self._writer = TarWriter(self._buffer, encoder=False, mtime=0, user="", group="", format="PAX_FORMAT")

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._buffer.tell()

    def add(self, sample: Sample) -> None:
        """Append a sample with its note."""
        told = {"source": sample.source, "crc32": zlib.crc32(sample.data)}
        note = json.dumps(told, ensure_ascii=True).encode()
        members = {"__key__": sample.key, sample.extension: sample.data, "json": note}
        if sample.cls is not None:
            members["cls"] = str(sample.cls).encode()
        self._writer.write(members)
        self.count += 1

    def close(self) -> bytes:
        """The finished tar."""
        self._writer.close()
        return self._buffer.getvalue()


def _shards(
    samples: Iterable[Sample | tuple[str, bytes, str, str]], shard_bytes: int, max_count: int | None
) -> Iterator[Shard]:
    seen: set[str] = set()
    shard = Shard()
    for given in samples:
        sample = Sample(*given)
        member = Member(f"{sample.key}.{sample.extension}", 0, 0)
        if (
            member.key_and_extension != (sample.key, sample.extension)
            or sample.extension not in IMAGE_EXTENSIONS
        ):
            raise DataError(
                "a sample cannot be stored", expected="key without dots, image extension", got=member.name
            )
        if sample.key in seen:
            raise DataError("a key is used twice", expected="unique keys", got=sample.key)
        seen.add(sample.key)
        is_full = shard.size + len(sample.data) > shard_bytes or (max_count and shard.count >= max_count)
        if shard.count and is_full:
            yield shard
            shard = Shard()
        shard.add(sample)
    if shard.count:
        yield shard


def unique_keys(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """A sample key per relative path: without its extension, dots of the base name as `_`, unique.

    `a.jpg` and `a.png`, or `a.b.jpg` and `a_b.jpg`, would be one sample; later ones get `-2`, `-3`, ...
    """
    used, keys = set(taken), []
    for name in names:
        folder, slash, base = name.rpartition("/")
        stem = folder + slash + (base.rpartition(".")[0] or base).replace(".", "_")
        stem = f"x{stem}" if _RESERVED.match(stem) else stem  # webdataset passes over __names__
        key, number = stem, 1
        while key in used:
            number += 1
            key = f"{stem}-{number}"
        used.add(key)
        keys.append(key)
    return keys


def class_names(names: Iterable[str], folder: str) -> list[str]:
    """Names of the first folder level, sorted."""
    parts = [name.partition("/") for name in names]
    if loose := [name for name, slash, _ in parts if not slash]:
        raise DataError(
            "images lie outside of class folders",
            expected="FOLDER/CLASS/.../image",
            got=", ".join(loose[:6]),
            where=folder,
            fix="move them into class folders, or leave --labels-from-folders out",
        )
    return sorted({name for name, _, _ in parts})


def resized(data: bytes, extension: str, px: int | None) -> tuple[bytes, str]:
    """The picture with its short side at `px`, re-encoded: JPEG stays JPEG, everything else becomes PNG."""
    if px is None:
        return data, extension
    try:
        pixels = decode(data, max_pixels=MAX_PIXELS)
    except DataError:
        return data, extension  # the index will find it, name it and put it into quarantine
    short = min(pixels.shape[:2])
    if short <= px:
        return data, extension
    height, width = (max(px, round(side * px / short)) for side in pixels.shape[:2])
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    is_jpeg = extension in ("jpg", "jpeg")
    image.save(buffer, format="JPEG" if is_jpeg else "PNG", **({"quality": JPEG_QUALITY} if is_jpeg else {}))
    return buffer.getvalue(), "jpg" if is_jpeg else "png"
