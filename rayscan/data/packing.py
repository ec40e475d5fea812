"""A collection of images -> WebDataset shards, in parallel: `rayscan shard DATA OUT`.

Which image goes into which shard is decided first and written down in `packed.parquet`; then every shard is
a task of its own, and lies in OUT whole or not at all. The same command again makes what is missing. Images
that came since go into new shards: shards that were planned stay as they are, and so do keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileType

from rayscan import parquet, storage
from rayscan.data import addresses
from rayscan.data.classes import wnid_of
from rayscan.data.decode import IMAGE_EXTENSIONS
from rayscan.data.file_types import extension_of
from rayscan.data.listing import Listing, Map, list_sources
from rayscan.data.packed_members import Stored, read_stored, stored_in
from rayscan.data.shard_writer import (
    JPEG_QUALITY,
    LABELS,
    SHARD_BYTES,
    Sample,
    Shard,
    ShardSummary,
    class_names,
    resized,
    unique_keys,
    write_labels,
)
from rayscan.errors import ConfigError, DataError
from rayscan.out_kinds import PLAN, SHARDS, require_out
from rayscan.storage import Place

READERS = 8
READ_AHEAD = 64
_SCHEMA = pa.schema(
    {"shard": pa.int32(), "key": pa.string(), "source": pa.string(), "uri": pa.string(), "size": pa.int64()}
)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """One shard to be made."""

    out: str
    name: str
    rows: tuple[Row, ...]
    """Rows of the plan."""
    labels: tuple[int | None, ...]
    """Label of each row, to be written as `.cls`."""
    resize_px: int | None


def here(fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """Apply in this process."""
    return [fn(item) for item in items]


def require_apart(data: str, out: str) -> None:
    """Refuse a place of shards in a folder of the images: the next look at these would find shards there.

    Args:
        data: As the user names the images.
        out: Folder of the shards.

    Raises:
        ConfigError: naming both.
    """
    out = addresses.absolute(out)
    named = addresses.absolute_all(data)
    for text in (named, *addresses.split_commas(named)):  # a name may hold commas
        folder = addresses.normalized(text.rstrip("/"))
        if f"{out}/".startswith(f"{folder}/") and storage.kind_of(folder) == FileType.Directory:
            raise ConfigError(
                "OUT lies in the folder of the images",
                expected="a folder beside it",
                got=out,
                where=folder,
                fix="choose another OUT; nothing was written",
            )


def write_shards(
    data: str | Listing,
    out: str,
    *,
    labels_from_folders: bool = False,
    shard_bytes: int = SHARD_BYTES,
    resize_px: int | None = None,
    cls_members: bool = False,
    wnids: frozenset[str] | None = None,
    apply: Map = here,
) -> ShardSummary:
    """Pack images: a folder, nested or flat, a pattern, or a list.

    Args:
        data: Local or remote, or what was listed of it; hidden files and what is no image stay out.
        out: Folder of the shards, local or remote.
        labels_from_folders: The first folder level names the class; write `labels.parquet`.
        shard_bytes: Size at which a new shard begins, as far as it can be told beforehand.
        resize_px: Re-encode larger pictures to this short side; without it, files go in byte for byte.
        cls_members: Also put the label into the shards as `key.cls`, for other readers.
        wnids: Only images in these class folders of ImageNet's layout.
        apply: Makes the shards; the fleet's map, or in this process.

    Returns:
        What lies in `out` now.

    Raises:
        DataError: there are no images or class folders, images changed, or foreign shards lie in `out`.
        ConfigError: settings contradict each other, or those of earlier shards.
    """
    if cls_members and not labels_from_folders:
        raise ConfigError("no labels to write", expected="labels_from_folders", got="cls_members alone")
    place = Place(out)
    require_out(place, SHARDS)
    listing = data if isinstance(data, Listing) else _listed(data, out)
    found, missing = _entries(listing, wnids, apply)
    before = _earlier(place, resize_px)
    rows = [*before, *_planned(found, before, shard_bytes, resize_px)]
    names = [row["source"] for row in rows]
    classes = class_names(names, listing.root) if labels_from_folders else []
    if cls_members and before:
        _check_numbers(classes, class_names([row["source"] for row in before], listing.root), out)
    labels = _numbers(names, classes) if cls_members else [None] * len(names)
    if len(rows) > len(before):
        _write_plan(place, rows, resize_px)
    tasks = list(_tasks(place, rows, labels, resize_px))
    size = sum(_made(place, tasks, apply))
    told = write_labels(place, rows, classes) if classes else None
    uris = tuple(place.uri_of(task.name) for task in tasks)
    return ShardSummary(uris, len(rows), size, told, len(classes), missing)


def _listed(data: str, out: str) -> Listing:
    require_apart(data, out)
    return list_sources(data)


def _numbers(names: Sequence[str], classes: Sequence[str]) -> list[int]:
    number_of = {name: number for number, name in enumerate(classes)}
    return [number_of[name.partition("/")[0]] for name in names]


def _made(place: Place, tasks: Sequence[Task], apply: Map) -> list[int]:
    """Have the shards made that are not there; bytes of each."""
    there = set(place.names())
    apply(pack, [task for task in tasks if task.name not in there])
    return [place.size(task.name) or 0 for task in tasks]


def _check_numbers(classes: Sequence[str], earlier: Sequence[str], out: str) -> None:
    if classes != earlier:
        raise DataError(
            "new classes would renumber the labels inside older shards",
            expected=f"the same {len(earlier):,} class folders",
            got=f"{len(classes):,}",
            where=out,
            fix="pack into an empty folder",
        )


def _entries(listing: Listing, wnids: frozenset[str] | None, apply: Map) -> tuple[list[Stored], int]:
    if listing.format.has_many and not listing.format.is_unpacked:
        raise DataError(
            "these are shards already",
            expected="images that are files",
            got=listing.format.name,
            where=listing.root,
        )
    if listing.format.has_many:
        jobs = [(listing.format, entry) for entry in listing.entries]
        parts = apply(stored_in, jobs)
        stored = [one for part, _ in parts for one in part]
        for _, members in parts:
            listing.left_out.members.update(members)
    else:
        stored = [Stored(e.key, e.uri, e.size) for e in listing.entries]
    chosen = [e for e in stored if wnids is None or wnid_of(e.key) in wnids]
    if not chosen:
        raise DataError(
            "no image lies in a class folder of the list",
            expected="folders such as n01440764/",
            got=f"{len(stored):,} images elsewhere",
            where=listing.root,
        )
    return [e for e in chosen if e.size >= 0], sum(e.size < 0 for e in chosen)


def _earlier(place: Place, resize_px: int | None) -> list[Row]:
    """The rows of an earlier plan; empty if there is none."""
    if place.size(PLAN) is None:
        if there := [name for name in place.names() if name.endswith(".tar")]:
            raise DataError(
                "other shards lie in the way",
                expected=f"an empty folder, or one with {PLAN}",
                got=", ".join(there[:6]),
                where=place.uri,
                fix="remove them, or write to an empty folder",
            )
        return []
    table = pq.ParquetFile(pa.BufferReader(place.read(PLAN))).read(use_threads=False)
    made_with = (table.schema.metadata or {}).get(b"resize_px", b"").decode()
    if made_with != str(resize_px or ""):
        raise ConfigError(
            "earlier shards here were made at another size",
            expected=f"--resize-px {made_with}" if made_with else "no resizing",
            got=resize_px,
            where=place.uri,
            fix="give the same size, or write to an empty folder",
        )
    rows: list[Row] = table.to_pylist()
    return rows


def _planned(
    found: Sequence[Stored], before: Sequence[Row], shard_bytes: int, resize_px: int | None
) -> Iterator[Row]:
    """Rows of the images that are not packed yet, in new shards."""
    known = {row["source"]: row["size"] for row in before}
    if changed := [e.key for e in found if known.get(e.key, e.size) != e.size]:
        raise DataError(
            "images have changed since they were packed",
            expected="the same files, and new ones",
            got=", ".join(ascii(name) for name in changed[:6]),
            fix="pack into an empty folder",
        )
    new = [entry for entry in found if entry.key not in known]
    keys = unique_keys([entry.key for entry in new], taken=[row["key"] for row in before])
    number, filled = (before[-1]["shard"] if before else -1), shard_bytes
    for entry, key in zip(new, keys, strict=True):
        # A JPEG of this side has about px^2 / 2 bytes; only the number of images per shard depends on it.
        size = entry.size if resize_px is None else min(entry.size, resize_px**2 // 2)
        if filled + size > shard_bytes:
            number, filled = number + 1, 0
        filled += size
        yield {"shard": number, "key": key, "source": entry.key, "uri": entry.uri, "size": entry.size} | (
            {} if entry.offset is None else {"offset": entry.offset}
        )


def _write_plan(place: Place, rows: Sequence[Row], resize_px: int | None) -> None:
    facts = {"resize_px": str(resize_px or ""), "jpeg_quality": str(JPEG_QUALITY if resize_px else "")}
    is_inside = any(row.get("offset") is not None for row in rows)
    schema = _SCHEMA.append(pa.field("offset", pa.int64())) if is_inside else _SCHEMA
    place.write(PLAN, parquet.encoded(pa.Table.from_pylist(list(rows), schema.with_metadata(facts))))


def _tasks(
    place: Place, rows: Sequence[Row], labels: Sequence[int | None], resize_px: int | None
) -> Iterator[Task]:
    starts = [n for n, row in enumerate(rows) if n == 0 or row["shard"] != rows[n - 1]["shard"]]
    for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
        name = f"shard-{rows[start]['shard']:06d}.tar"
        yield Task(place.uri, name, tuple(rows[start:stop]), tuple(labels[start:stop]), resize_px)


def pack(task: Task) -> int:
    """Make one shard; runs on a worker. Returns its bytes."""
    shard = Shard()
    rows = iter(zip(task.rows, task.labels, strict=True))
    with ThreadPoolExecutor(READERS) as pool:  # so that a remote answer is not waited for one at a time
        while batch := list(islice(rows, READ_AHEAD)):
            for (row, label), data in zip(batch, _read([row for row, _ in batch], pool), strict=True):
                extension = row["source"].rpartition(".")[2].lower()
                extension = extension if extension in IMAGE_EXTENSIONS else extension_of(data)
                stored, kind = resized(data, extension, task.resize_px)
                shard.add(Sample(row["key"], stored, kind, row["source"], label))
    data = shard.close()
    Place(task.out).write(task.name, data)
    return len(data)


def _read(rows: Sequence[Row], pool: ThreadPoolExecutor) -> Iterable[bytes]:
    """Bytes of images: files, or inside of files, which are all of one kind."""
    if rows[0].get("offset") is None:
        return pool.map(storage.read, [row["uri"] for row in rows])
    return read_stored(rows)


__all__ = ["LABELS", "PLAN", "Task", "here", "pack", "write_shards"]
