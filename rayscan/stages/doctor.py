"""`rayscan doctor DATA`: what is there, and whether it still is what an index says. Writes nothing.

Unlike the index stage it goes on past damaged shards, so that all of them are known at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from rayscan.artifacts import Artifact
from rayscan.data import addresses
from rayscan.data.classes import wnids_of
from rayscan.data.inspection import OK, inspect
from rayscan.data.listing import Listing, SourceFile
from rayscan.data.table import IMAGES, SHARDS
from rayscan.data.tar_index import CHANGED, index_shard
from rayscan.data.verification import Expected, Finding, verify_shard
from rayscan.errors import DataError

FILES_PER_TASK = 256
MAX_LINES = 20
_COLUMNS = ["key", "shard", "offset", "length", "crc32"]

Map = Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]
"""`[fn(item) for item in items]`, here or on the fleet."""


class Task(NamedTuple):
    """One shard, or some image files, to look at."""

    kind: str
    entries: tuple[SourceFile, ...]
    max_pixels: int


class Seen(NamedTuple):
    """What one task saw."""

    keys: list[str]
    statuses: list[str]
    short_sides: list[int]
    """px, of what decodes."""
    members: dict[str, int]
    damage: str
    """Why a shard is unusable; empty if it is whole."""


def tasks(listing: Listing, max_pixels: int) -> list[Task]:
    """A listing cut into pieces of work."""
    size = 1 if listing.kind == "shards" else FILES_PER_TASK
    starts = range(0, len(listing.entries), size)
    return [Task(listing.kind, listing.entries[start : start + size], max_pixels) for start in starts]


def look(task: Task) -> Seen:
    """Look at one piece; runs on a worker."""
    if task.kind == "shards":
        try:
            scan = index_shard(task.entries[0].uri, max_pixels=task.max_pixels)
        except DataError as error:
            return Seen([], [], [], {}, str(error))
        rows = scan.rows.select(["key", "status", "width", "height"]).to_pylist()
        sides = [min(row["width"], row["height"]) for row in rows if row["status"] == OK]
        return Seen([r["key"] for r in rows], [r["status"] for r in rows], sides, dict(scan.members), "")
    statuses, sides = [], []
    for entry in task.entries:
        try:
            seen = inspect(addresses.read(entry.uri), max_pixels=task.max_pixels)
        except DataError:
            statuses.append("unreadable")
            continue
        statuses.append(seen.status)
        sides += [min(seen.width, seen.height)] if seen.status == OK else []
    return Seen([entry.key for entry in task.entries], statuses, sides, {}, "")


def describe(listing: Listing, seen: Sequence[Seen]) -> tuple[list[str], bool]:
    """Lines about a collection, and whether it is whole.

    Args:
        listing: Its files.
        seen: What `look` saw of each task.
    """
    keys = Counter(key for part in seen for key in part.keys)
    reasons = Counter(status for part in seen for status in part.statuses)
    members: Counter[str] = sum((Counter(part.members) for part in seen), Counter())
    sides = np.array([side for part in seen for side in part.short_sides])
    damaged = [part.damage for part in seen if part.damage]
    lines = [f"{len(listing.entries):,} {listing.kind}, {listing.size / 1e6:,.1f} MB under {listing.root!a}"]
    lines.append(f"images: {sum(reasons.values()):,}, {reasons[OK]:,} of them usable")
    lines += [f"  {count:,} {reason!a}" for reason, count in reasons.most_common() if reason != OK]
    if len(sides):
        low, middle, high = np.quantile(sides, (0, 0.5, 1)).astype(int)
        lines.append(f"short side: {low} to {high} px, median {middle}")
    if listing.kind == "shards":
        others = ", ".join(f"{members[name]:,} {name}" for name in ("cls", "json", "other", "imageless"))
        lines.append(f"beside the images: {others}")
    if classes := wnids_of(list(keys)):
        lines.append(f"folders are ImageNet classes: {len(classes):,}")
    twice = [key for key, count in keys.items() if count > 1]
    lines += [f"key used {keys[key]} times: {key!a}" for key in twice[:MAX_LINES]]
    lines += [f"damaged: {text!a}" for text in damaged[:MAX_LINES]]
    lines.append(f"{len(damaged):,} damaged shards, {len(twice):,} repeated keys")
    return lines, not damaged and not twice and not reasons[CHANGED]


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
    """Everything that is not as it was indexed."""
    findings: list[list[Finding]] = apply(verify_shard, list(expected_shards(index)))
    return [finding for part in findings for finding in part]
