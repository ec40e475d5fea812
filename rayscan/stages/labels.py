"""Stage labels: what the images are, for the scores and the report alone. Runs when all is learnt, if at all.

Labels come from `--labels FILE`, else from `.cls` members of the shards, else from "label" in their `.json`.
Nothing before this stage depends on them: a file that is named is opened at the start to see whether it can
be used, and what it says is dropped. They may come later: `rayscan evaluate RUN --labels FILE`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rayscan import storage
from rayscan.artifacts import Artifact, Step, digest
from rayscan.config import Recipe
from rayscan.context import Context, Sources
from rayscan.data import addresses
from rayscan.data.inspection import GONE
from rayscan.data.labels import (
    Labels,
    first_note_has_label,
    from_file,
    from_members,
    read_members,
    require_readable,
)
from rayscan.data.shard_keys import as_in_files
from rayscan.data.sources import named_format
from rayscan.data.table import IMAGES, SHARDS
from rayscan.errors import DataError
from rayscan.stages.index import KEYS_BY_SHARD
from rayscan.types import Ints

NAME = "labels"
SCHEMA = 1
_COLUMNS = ["gid", "split", "shard", "key", "source", "id", "status"]


@dataclass(frozen=True)
class Classes:
    """The labels."""

    of: Ints
    """Class by gid, -1 where unlabelled, int64 [N]."""
    names: list[str]
    """Name of each class [L]."""


def available(index: Artifact, sources: Sources) -> bool:
    """Whether there are labels: a file that the user named, or members of the shards.

    Whether `.json` members carry a label is told from the first of them.
    """
    if sources.labels is not None or index.facts["cls"]:
        return True
    return bool(index.facts["json"]) and first_note_has_label(_shards(index)[0][1])


def require_file(sources: Sources) -> None:
    """Refuse a labels file that cannot be read, before anything else is done; its labels are not kept.

    Raises:
        DataError: saying what is wrong with it.
    """
    if sources.labels is not None:
        require_readable(addresses.absolute(sources.labels))


def require_images(index: Artifact, sources: Sources) -> None:
    """Refuse a labels file that fits no image, before anything is trained; what it says is not kept.

    Raises:
        DataError: rows fit none, or several, or contradict each other.
    """
    if sources.labels is not None:
        from_file(addresses.absolute(sources.labels), _images(index))


def _images(index: Artifact) -> pa.Table:
    """Those that are there."""
    images = index.read_table(IMAGES, columns=_COLUMNS)
    return images.filter(pc.not_equal(images["status"], GONE))


def _shards(index: Artifact) -> list[tuple[int, str]]:
    """Number and address of every file that holds many images, and has some."""
    rows = index.read_table(SHARDS, columns=["shard", "uri", "count"]).to_pylist()
    return [(row["shard"], row["uri"]) for row in rows if row["count"] and named_format(row["uri"]).has_many]


def plan(_recipe: Recipe, done: Mapping[str, Artifact], sources: Sources) -> Step:
    """What this stage would do.

    The index enters with its addresses, not its content alone: labels are joined by source and id.
    """
    index = done["index"]
    config: dict[str, Any] = {"index": index.manifest["fingerprint"]}
    if sources.labels is not None:
        config["file"] = hashlib.sha256(storage.read(sources.labels)).hexdigest()
    else:
        config["shards"] = digest(index.read_table(SHARDS, columns=["sha256"])["sha256"].to_pylist())
    return Step(NAME, SCHEMA, config, {"index": index.identity})


def run(_recipe: Recipe, done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
    """Join the labels to the images.

    Raises:
        DataError: they cannot be read or joined, or not one image gets a label.
    """
    index = done["index"]
    images = _images(index)
    found = _find(index, images, context)
    if not len(found.gids):
        raise DataError(
            "no usable image has a label", expected="some", got=f"{found.unmatched:,} rows without image"
        )
    draft = context.draft(step)
    table = pa.table({"gid": pa.array(found.gids, pa.int64()), "label": pa.array(found.labels, pa.int64())})
    files = {
        "labels.parquet": draft.write_table("labels.parquet", table),
        "classes.json": draft.write_json("classes.json", list(found.classes)),
    }
    facts = {
        "labelled": len(found.gids),
        "images": index.facts["train"] + index.facts["eval"],
        "classes": len(found.classes),
        "unmatched": found.unmatched,
    }
    content = [found.gids.tolist(), found.labels.tolist(), list(found.classes)]
    artifact = draft.commit(files, facts=facts, identity=digest(content))
    lost = f", {found.unmatched:,} rows fit no image" if found.unmatched else ""
    counts = f"{facts['labelled']:,} of {facts['images']:,} images, {facts['classes']:,} classes"
    context.progress.say(f"  {NAME}: {counts}{lost}")
    return artifact


def _find(index: Artifact, images: pa.Table, context: Context) -> Labels:
    if context.sources.labels is not None:
        return from_file(addresses.absolute(context.sources.labels), images)
    shards = _shards(index)
    context.progress.start(NAME, len(shards), "shards")
    tables = context.fleet.map(_read, shards, on_done=lambda _number, _table: context.progress.advance())
    as_told = as_in_files(images, dict(shards), index.facts.get(KEYS_BY_SHARD, {}))
    return from_members(tables, as_told)


def _read(shard: tuple[int, str]) -> pa.Table:
    number, uri = shard
    return read_members(uri, number)


def read_classes(labels: Artifact, num_images: int) -> Classes:
    """The labels by gid.

    Args:
        labels: Result of the labels stage.
        num_images: The least length of the answer.
    """
    table = labels.read_table("labels.parquet", columns=["gid", "label"])
    gids, values = table.column("gid").to_numpy(), table.column("label").to_numpy()
    of = np.full(max(num_images, int(gids.max(initial=-1)) + 1), -1, np.int64)
    of[gids] = values
    return Classes(of, [str(name) for name in labels.read_json("classes.json")])
