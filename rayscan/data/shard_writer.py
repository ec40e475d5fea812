"""Image files -> WebDataset tar shards, for `rayscan shard FOLDER OUT` and the demo. Upstream of the river.

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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from webdataset import TarWriter

from rayscan.data import addresses
from rayscan.data.decode import decode
from rayscan.data.listing import IMAGE_EXTENSIONS, Listing, list_sources
from rayscan.data.tar_members import Member
from rayscan.errors import ConfigError, DataError
from rayscan.storage import Place

SHARD_BYTES = 200_000_000
JPEG_QUALITY = 90
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

    def __str__(self) -> str:
        """One line for the terminal."""
        where = f"{self.shards[0]} .. {self.shards[-1].rpartition('/')[2]}" if self.shards else "nowhere"
        labels = f", {self.classes:,} classes in {self.labels}" if self.labels else ""
        return (
            f"{self.images:,} images, {self.size / 1e6:,.1f} MB, {len(self.shards):,} shards: {where}{labels}"
        )


def write_shards(
    folder: str,
    out: str,
    *,
    labels_from_folders: bool = False,
    shard_bytes: int = SHARD_BYTES,
    resize_px: int | None = None,
    cls_members: bool = False,
) -> ShardSummary:
    """Pack a folder of images, nested or flat.

    Args:
        folder: Local or remote; hidden files and everything that is no image stay out.
        out: Folder of the shards, local or remote.
        labels_from_folders: The first folder level names the class; `labels.parquet` is written to `out`.
        shard_bytes: Size at which a new shard begins.
        resize_px: Re-encode larger pictures to this short side; without it, files go in byte for byte.
        cls_members: Also put the label into the shards as `key.cls`, for other readers.

    Returns:
        What was written.

    Raises:
        DataError: there are no images, no class folders, or foreign shards in `out`.
        ConfigError: `cls_members` without `labels_from_folders`.
    """
    if cls_members and not labels_from_folders:
        raise ConfigError(
            "there are no labels to write", expected="labels_from_folders", got="cls_members alone"
        )
    listing = _listed_folder(folder)
    names = [entry.key for entry in listing.entries]
    keys = unique_keys(names)
    classes = _classes(names, folder) if labels_from_folders else []
    number_of = {name: number for number, name in enumerate(classes)}
    labels = [number_of[name.partition("/")[0]] if classes else None for name in names]

    def samples() -> Iterator[Sample]:
        for entry, key, label in zip(listing.entries, keys, labels, strict=True):
            data, extension = _resized(
                addresses.read(entry.uri), entry.key.rpartition(".")[2].lower(), resize_px
            )
            yield Sample(key, data, extension, entry.key, label if cls_members else None)

    summary = write_samples(samples(), out, "shard", shard_bytes=shard_bytes)
    if not classes:
        return summary
    uri = _write_labels(Place(out), keys, names, [classes[label] for label in labels if label is not None])
    return replace(summary, labels=uri, classes=len(classes))


def _listed_folder(folder: str) -> Listing:
    listing = list_sources(folder)
    if listing.kind != "files":
        raise DataError("these are shards already", expected="a folder of images", got="tars", where=folder)
    return listing


def _write_labels(place: Place, keys: list[str], names: list[str], class_names: list[str]) -> str:
    number_of = {name: number for number, name in enumerate(sorted(set(class_names)))}
    labels = pa.array([number_of[name] for name in class_names], pa.int64())
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"key": keys, "source": names, "label": labels, "class": class_names}), sink)
    place.write(LABELS, memoryview(sink.getvalue()))
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


class _Shard:
    """A tar in memory."""

    def __init__(self) -> None:
        self.count = 0
        self._buffer = io.BytesIO()
        self._writer = TarWriter(self._buffer, encoder=False, mtime=0, user="", group="", format="PAX_FORMAT")

    @property
    def size(self) -> int:
        return self._buffer.tell()

    def add(self, sample: Sample) -> None:
        told = {"source": sample.source, "crc32": zlib.crc32(sample.data)}
        note = json.dumps(told, ensure_ascii=True).encode()
        members = {"__key__": sample.key, sample.extension: sample.data, "json": note}
        if sample.cls is not None:
            members["cls"] = str(sample.cls).encode()
        self._writer.write(members)
        self.count += 1

    def close(self) -> bytes:
        self._writer.close()
        return self._buffer.getvalue()


def _shards(
    samples: Iterable[Sample | tuple[str, bytes, str, str]], shard_bytes: int, max_count: int | None
) -> Iterator[_Shard]:
    seen: set[str] = set()
    shard = _Shard()
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
            shard = _Shard()
        shard.add(sample)
    if shard.count:
        yield shard


def unique_keys(names: Iterable[str]) -> list[str]:
    """A sample key per relative path: without its extension, dots of the base name as `_`, unique.

    `a.jpg` and `a.png`, or `a.b.jpg` and `a_b.jpg`, would be one sample; later ones get `-2`, `-3`, ...
    """
    keys: dict[str, None] = {}
    for name in names:
        folder, slash, base = name.rpartition("/")
        stem = folder + slash + base.rpartition(".")[0].replace(".", "_")
        stem = f"x{stem}" if _RESERVED.match(stem) else stem  # webdataset passes over __names__
        key, number = stem, 1
        while key in keys:
            number += 1
            key = f"{stem}-{number}"
        keys[key] = None
    return list(keys)


def _classes(names: Iterable[str], folder: str) -> list[str]:
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


def _resized(data: bytes, extension: str, px: int | None) -> tuple[bytes, str]:
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
