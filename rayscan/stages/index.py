"""Stage index: what the user named -> one row per image, each read, checksummed and decoded once.

Parallel over shards, or over chunks of single files. Rows keep the order of the listing, train before eval,
so that a gid depends on nothing but the data. What does not decode goes into quarantine with its reason; too
much of it, a damaged shard or a key that is used twice stops the run. Labels are not read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rayscan.artifacts import Artifact, Step, digest
from rayscan.config import ImagesConfig, Recipe
from rayscan.console.progress import Progress
from rayscan.context import Context, Sources
from rayscan.data import metadata
from rayscan.data.identity import content_identity
from rayscan.data.index_chunks import Chunk, chunks_of, finished_chunk, scan_chunk
from rayscan.data.inspection import OK
from rayscan.data.left_out import lines_of_members
from rayscan.data.listing import Listing, list_sources
from rayscan.data.shard_keys import with_unique_keys
from rayscan.data.table import IMAGE_SCHEMA, IMAGES, SHARDS
from rayscan.embeddings.alone import index_alone, vectors_alone
from rayscan.errors import DataError

NAME = "index"
SCHEMA = 1
KEYS_BY_SHARD = "keys_by_shard"
"""Fact: the root of each split whose keys begin with the name of their shard below it."""
ALWAYS_TOLERATED = 1
"""Bad images that never stop a run, however few images there are."""


def plan(recipe: Recipe, _done: Mapping[str, Artifact], sources: Sources) -> Step:
    """What this stage would do; lists the storage.

    Raises:
        DataError: the data cannot be found or understood.
    """
    if (found := vectors_alone(sources.data, sources.eval_data)) is not None:
        split, vectors = found
        return Step(NAME, SCHEMA, {"vectors": vectors.fingerprint, "split": split})
    return Step(NAME, SCHEMA, _config(recipe, _listings(sources), sources))


def listed(data: str, progress: Progress | None = None, image_column: str | None = None) -> Listing:
    """The files that the user means, as `list_sources` finds them; their number so far is shown meanwhile.

    Args:
        data: Name, pattern, folder or list, local or remote.
        progress: Where to show; standard error if not given.
        image_column: The column with the images, where they are in Parquet files.

    Raises:
        DataError: see `list_sources`.
    """
    shown = Progress() if progress is None else progress
    shown.start(f"looking for {data}", 0, "files")
    try:
        return list_sources(data, shown.at, image_column)
    finally:
        shown.clear()


def _listings(sources: Sources) -> dict[str, Listing]:
    named = {"train": sources.data, "eval": sources.eval_data}
    listings = {
        split: listed(data, image_column=sources.image_column)
        for split, data in named.items()
        if data is not None
    }
    if not listings:
        raise DataError("there is no data", expected="--data or --eval-data", got="neither")
    return listings


def _config(recipe: Recipe, listings: Mapping[str, Listing], sources: Sources) -> dict[str, Any]:
    """Settings that decide the rows. How many bad ones are tolerated only decides whether the run goes on."""
    data = {
        split: {"kind": x.format.name, "files": len(x.entries), "bytes": x.size, "fingerprint": x.fingerprint}
        for split, x in listings.items()
    }
    given = {"image_column": sources.image_column} if sources.image_column else {}
    told = [metadata.fingerprint(x.metadata) for x in listings.values() if x.metadata is not None]
    given |= {"metadata": digest(told)} if told else {}
    return {"max_pixels": recipe.images.max_pixels, **data, **given}


def run(recipe: Recipe, _done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
    """Scan everything on the fleet; chunks that an earlier attempt finished are taken over.

    Raises:
        DataError: the data changed meanwhile, a shard is damaged, keys repeat, or too many images are bad.
    """
    if (found := vectors_alone(context.sources.data, context.sources.eval_data)) is not None:
        split, vectors = found
        context.progress.start(NAME, vectors.rows, "vectors")
        made = index_alone(split, vectors, context.draft(step), context.fleet.map)
        context.progress.finish(f"{vectors.rows:,} vectors without pictures")
        return made
    listings = _unchanged_listings(recipe, step, context)
    draft = context.draft(step)
    chunks = chunks_of(draft, listings, recipe.images.max_pixels)
    _scan(chunks, context)
    parts = [finished_chunk(chunk) for chunk in chunks]
    rows = _numbered(pa.concat_tables([part.rows for part in parts]))
    uris = [entry.uri for chunk in chunks for entry in chunk.entries]
    rows, roots = with_unique_keys(rows, uris, {split: one.root for split, one in listings.items()})
    _check_bad(rows, listings, recipe.images)
    bad = rows.filter(pc.not_equal(rows["status"], OK))
    files = {
        IMAGES: draft.write_table(IMAGES, rows),
        SHARDS: draft.write_table(SHARDS, pa.concat_tables([part.shards for part in parts])),
        "quarantine.parquet": draft.write_table(
            "quarantine.parquet", bad.select(["gid", "key", "source", "status"]).rename_columns(_QUARANTINE)
        ),
    }
    scanned = [(len(part.rows), part.metadata) for part in parts]
    told = metadata.of_index(rows, [one.metadata for one in listings.values()], scanned)
    files |= {} if told is None else {metadata.METADATA: draft.write_table(metadata.METADATA, told)}
    counts = {split: _count_ok(rows, split) for split in ("train", "eval")}
    members = sum((Counter(part.members) for part in parts), Counter())
    beside = {name: members[name] for name in ("cls", "json", "imageless")}
    by_shard = {KEYS_BY_SHARD: roots} if roots else {}
    facts: dict[str, Any] = {**counts, "quarantined": len(bad), **beside, **by_shard}
    artifact = draft.commit(files, facts=facts, identity=content_identity(rows))
    for path in (path for part in parts for path in part.paths):
        draft.place.delete(path)
    for line in lines_of_members(members):
        context.progress.say(f"  {NAME}: {line}")
    bare = ", keys repeat and begin with their shard" if roots else ""
    bare += f", {facts['imageless']:,} samples without image" if facts["imageless"] else ""
    context.progress.finish(
        f"{counts['train']:,} train, {counts['eval']:,} eval, {len(bad):,} in quarantine{bare}"
    )
    return artifact


def _numbered(rows: pa.Table) -> pa.Table:
    gids = pa.array(np.arange(len(rows)))
    return rows.append_column("gid", gids).select(IMAGE_SCHEMA.names).cast(IMAGE_SCHEMA)


def _unchanged_listings(recipe: Recipe, step: Step, context: Context) -> dict[str, Listing]:
    """What was planned to be indexed; says what is left out."""
    listings = _listings(context.sources)
    if _config(recipe, listings, context.sources) != step.config:
        raise DataError(
            "the data changes while it is indexed", fix="run again when nothing writes to it any more"
        )
    for line in (line for listing in listings.values() for line in listing.left_out.lines()):
        context.progress.say(f"  {NAME}: {line}")
    return listings


_QUARANTINE = ["gid", "key", "source", "reason"]


def _scan(chunks: Sequence[Chunk], context: Context) -> None:
    """Have every chunk scanned that is not finished yet."""
    todo = [chunk for chunk in chunks if chunk.draft.finished_part(chunk.name) is None]
    seen: Counter[str] = Counter()

    def note(number: int, result: Mapping[str, int]) -> None:
        seen.update(result)
        context.progress.advance(len(todo[number].entries), images=seen["images"], bad=seen["bad"])

    names = {chunk.format.name for chunk in chunks}
    unit = names.pop() if len(names) == 1 else "files"
    context.progress.start(NAME, sum(len(chunk.entries) for chunk in todo), unit)
    context.fleet.map(scan_chunk, todo, on_done=note)


def _check_bad(rows: pa.Table, listings: Mapping[str, Listing], images: ImagesConfig) -> None:
    bad = rows.filter(pc.not_equal(rows["status"], OK))
    reasons = Counter(bad["status"].to_pylist()).most_common()
    worst = [f"{count:,} {reason}" for reason, count in reasons]
    for split in listings:
        if _count_ok(rows, split) == 0:
            raise DataError(
                f"the {split} split has no usable image", expected="images", got=", ".join(worst) or "none"
            )
    is_strict, most = images.on_bad == "stop", images.max_bad_fraction
    if len(bad) > (0 if is_strict else max(ALWAYS_TOLERATED, most * len(rows))):
        firsts = [bad["source"][pc.index(bad["status"], reason).as_py()].as_py() for reason, _ in reasons]
        raise DataError(
            "too many images cannot be used",
            expected="none" if is_strict else f"at most {most:.4%} of {len(rows):,}",
            got=f"{len(bad):,}: {', '.join(worst)}",
            where="; ".join(f"{reason}: {first}" for (reason, _), first in zip(reasons, firsts, strict=True)),
            fix="repair or remove them, or allow more with --images.max-bad-fraction and on-bad skip",
        )


def _count_ok(rows: pa.Table, split: str) -> int:
    return int(pc.sum(pc.and_(pc.equal(rows["split"], split), pc.equal(rows["status"], OK))).as_py() or 0)
