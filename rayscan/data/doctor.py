"""What a collection of images holds, and whether it is whole: `rayscan doctor DATA`. Writes nothing.

Unlike the index stage it goes on past damaged shards, so that all of them are known at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rayscan.data.classes import wnids_of
from rayscan.data.inspection import CHANGED, OK
from rayscan.data.left_out import lines_of_members
from rayscan.data.listing import Listing
from rayscan.data.sources.base import Format, SourceFile
from rayscan.errors import DataError

MAX_LINES = 20


class Task(NamedTuple):
    """Some files of a collection to be scanned."""

    format: Format
    entries: tuple[SourceFile, ...]
    max_pixels: int


class Seen(NamedTuple):
    """What one task found."""

    keys: list[str]
    statuses: list[str]
    short_sides: list[int]
    """px, of what decodes."""
    members: dict[str, int]
    damaged: list[str]
    """Why files are unusable; empty if all are whole."""


def tasks(listing: Listing, max_pixels: int) -> list[Task]:
    """The files of a listing, cut into pieces of work."""
    return [Task(listing.format, batch, max_pixels) for batch in listing.batches()]


def examine(task: Task) -> Seen:
    """What a scan of some files finds; runs on a worker."""
    keys, statuses, sides, damaged, members = [], [], [], [], Counter[str]()
    for entry in task.entries:
        try:
            scan = task.format.scan(entry, max_pixels=task.max_pixels)
        except DataError as error:
            damaged.append(str(error))
            continue
        keys += [row["key"] for row in scan.rows]
        statuses += [row["status"] for row in scan.rows]
        sides += [min(row["width"], row["height"]) for row in scan.rows if row["status"] == OK]
        members.update(scan.members)
    return Seen(keys, statuses, sides, dict(members), damaged)


def describe(listing: Listing, seen: Sequence[Seen]) -> tuple[list[str], bool]:
    """Lines of text about a collection, and whether it is whole: a collection without an image is not.

    Args:
        listing: Its files.
        seen: What `examine` found in each task.
    """
    keys = Counter(key for part in seen for key in part.keys)
    reasons = Counter(status for part in seen for status in part.statuses)
    members: Counter[str] = sum((Counter(part.members) for part in seen), Counter())
    sides = np.array([side for part in seen for side in part.short_sides])
    damaged = [text for part in seen for text in part.damaged]
    lines = [
        f"{len(listing.entries):,} {listing.format.name}, {listing.size / 1e6:,.1f} MB under {listing.root!a}"
    ]
    lines.append(f"images: {sum(reasons.values()):,}, {reasons[OK]:,} of them usable")
    first: dict[str, str] = {}
    for status, key in ((s, k) for part in seen for s, k in zip(part.statuses, part.keys, strict=True)):
        first.setdefault(status, key)
    bad = [(reason, count) for reason, count in reasons.most_common() if reason != OK]
    lines += [f"  {count:,} {reason!a}, such as {first[reason]!a}" for reason, count in bad]
    lines += [*listing.left_out.lines(), *lines_of_members(members)]
    if len(sides):
        low, middle, high = np.quantile(sides, (0, 0.5, 1)).astype(int)
        lines.append(f"short side: {low} to {high} px, median {middle}")
    if listing.format.has_many:
        others = ", ".join(f"{members[name]:,} {name}" for name in ("cls", "json", "other", "imageless"))
        lines.append(f"beside the images: {others}")
    if classes := wnids_of(list(keys)):
        lines.append(f"folders are ImageNet classes: {len(classes):,}")
    twice = [key for key, count in keys.items() if count > 1]
    if twice:
        told = "in an index each begins with the name of its shard"
        lines.append(f"keys repeat across shards, such as {twice[0]!a}: {told}")
    lines += [f"damaged: {text!a}" for text in damaged[:MAX_LINES]]
    lines.append(f"{len(damaged):,} damaged shards, {len(twice):,} repeated keys")
    is_empty = not reasons[OK]
    lines += ["not one image can be used"] if is_empty else []
    return lines, not damaged and not reasons[CHANGED] and not is_empty
