"""Stage index: what the user named -> one row per image, each read, checksummed and decoded once.

Parallel over shards, or over chunks of single files. Rows keep the order of the listing, train before eval,
so that a gid depends on nothing but the data; but what an earlier index of the same `--out` has keeps its
gid, and files that are as they were are not read again (`data.former_index`, `data.stable_gids`). What does
not decode goes into quarantine with its reason; too much of it, a damaged shard or a key that is used twice
stops the run. Labels are not read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rayscan.artifacts import MANIFEST, Artifact, Draft, Step, digest, load
from rayscan.config import ImagesConfig, Recipe
from rayscan.console.progress import Progress
from rayscan.context import Context, Sources
from rayscan.data import boxes, metadata
from rayscan.data.box_files import Boxes, read_boxes
from rayscan.data.former_index import FormerIndex
from rayscan.data.identity import content_identity
from rayscan.data.index_chunks import Chunk, chunks_of, finished_chunk, numbered, scan_chunk
from rayscan.data.index_rows import LARGER, TOO_LARGE, IndexRows, assembled
from rayscan.data.inspection import OK
from rayscan.data.left_out import lines_of_members
from rayscan.data.listing import Listing, list_sources
from rayscan.data.table import BOXES, DECODING, IMAGES, SHARDS
from rayscan.data.tones import Decoding
from rayscan.embeddings.alone import index_alone, vectors_alone
from rayscan.errors import DataError
from rayscan.run import recorded_stages

NAME = "index"
SCHEMA = 1
TRAINED = "trained index"
"""What `predict` calls the index of the run whose model it uses."""
KEYS_BY_SHARD = "keys_by_shard"
"""Fact: the root of each split whose keys begin with the name of their shard below it."""
CHANGES = "changes"
"""Fact, where an index follows another one: how many of its images are kept, changed, new and gone."""
ALWAYS_TOLERATED = 1
"""Bad images that never stop a run, however few images there are."""


def plan(recipe: Recipe, done: Mapping[str, Artifact], sources: Sources) -> Step:
    """What this stage would do; lists the storage.

    Raises:
        DataError: the data cannot be found or understood.
    """
    if (found := vectors_alone(sources.data, sources.eval_data)) is not None:
        split, vectors = found
        return Step(NAME, SCHEMA, {"vectors": vectors.fingerprint, "split": split})
    return Step(NAME, SCHEMA, _config(recipe, done, _listings(sources), _boxes(sources), sources))


def listed(
    data: str,
    progress: Progress | None = None,
    image_column: str | None = None,
    image_member: str | None = None,
) -> Listing:
    """The files that the user means, as `list_sources` finds them; their number so far is shown meanwhile.

    Args:
        data: Name, pattern, folder or list, local or remote.
        progress: Where to show; standard error if not given.
        image_column: The column with the images, where they are in Parquet files.
        image_member: The extension of the members that are the images, where samples have several.

    Raises:
        DataError: see `list_sources`.
    """
    shown = Progress() if progress is None else progress
    shown.start(f"looking for {data}", 0, "files")
    try:
        return list_sources(data, shown.at, image_column, image_member)
    finally:
        shown.clear()


def _listings(sources: Sources) -> dict[str, Listing]:
    named = {"train": sources.data, "eval": sources.eval_data}
    listings = {
        split: listed(data, image_column=sources.image_column, image_member=sources.image_member)
        for split, data in named.items()
        if data is not None
    }
    if not listings:
        raise DataError("there is no data", expected="--data or --eval-data", got="neither")
    return listings


def _boxes(sources: Sources) -> Boxes | None:
    return None if sources.boxes is None else read_boxes(sources.boxes)


def _config(
    recipe: Recipe,
    done: Mapping[str, Artifact],
    listings: Mapping[str, Listing],
    told_boxes: Boxes | None,
    sources: Sources,
) -> dict[str, Any]:
    """Settings that decide the rows. How many bad ones are tolerated only decides whether the run goes on."""
    data = {
        split: {"kind": x.format.name, "files": len(x.entries), "bytes": x.size, "fingerprint": x.fingerprint}
        for split, x in listings.items()
    }
    given: dict[str, Any] = {"image_column": sources.image_column} if sources.image_column else {}
    given |= {"image_member": sources.image_member} if sources.image_member else {}
    told = [metadata.fingerprint(x.metadata) for x in listings.values() if x.metadata is not None]
    given |= {"metadata": digest(told)} if told else {}
    given |= {"bands": list(recipe.images.band_numbers)} if recipe.images.bands else {}
    if (taught := _taught(done)) is not None:
        given[DECODING] = taught
    if told_boxes is not None:
        given["boxes"] = boxes.fingerprint(told_boxes, sources.boxes_margin)
    return {"max_pixels": recipe.images.max_pixels, **data, **given}


def _taught(done: Mapping[str, Artifact]) -> Mapping[str, Any] | None:
    """Ranges of the images that a model was trained on."""
    return done[TRAINED].facts.get(DECODING) if TRAINED in done else None


def run(recipe: Recipe, done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
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
    listings, told_boxes = _unchanged(recipe, done, step, context)
    draft, files = context.draft(step), numbered(listings)
    before = _former(step, context)
    moved = context.sources.rebase
    taken = {s: {} if before is None else before.unchanged(files[s], s, moved) for s in files}
    after = f"-{digest(sorted(taken.items()))[:8]}" if any(taken.values()) else ""
    known = {number for numbers in taken.values() for number in numbers}
    how = Decoding(recipe.images.band_numbers, may_reduce=context.sources.boxes is None)
    chunks = chunks_of(draft, listings, recipe.images.max_pixels, how, known, after)
    _scan(chunks, context)
    parts = [finished_chunk(chunk) for chunk in chunks]
    if before is not None:
        parts += [before.part(taken[split], files[split], split) for split in files if taken[split]]
    uris = [entry.uri for split in files.values() for entry in split.values()]
    roots = {split: listing.root for split, listing in listings.items()}
    listed = [listing.metadata for listing in listings.values()]
    result = assembled(parts, uris, roots, listed, None if before is None else before.rows)
    absent = metadata.absent_in_words(result.rows, listed)
    if told_boxes is not None:
        result = result.cropped(told_boxes, context.sources.boxes_margin, str(context.sources.boxes))
    _check_bad(result.rows, listings, recipe.images)
    decoding = _taught(done) or (None if before is None else before.decoding)
    if decoding is None and (own := result.decoding(how.bands)) is not None:
        decoding = own.facts
    artifact = _commit(result, draft, decoding)
    for path in (path for part in parts for path in part.paths):
        draft.place.delete(path)
    for line in (*lines_of_members(result.members), *absent, *result.lines):
        context.progress.say(f"  {NAME}: {line}")
    context.progress.finish(_summary(artifact.facts))
    return artifact


def _former(step: Step, context: Context) -> FormerIndex | None:
    """The index that this place had so far, if what differs is its files and no more.

    Raises:
        ArtifactError: it is damaged.
    """
    directory = recorded_stages(context.out).get(NAME, {}).get("directory")
    if "boxes" in step.config or directory is None or context.out.child(directory).size(MANIFEST) is None:
        return None
    artifact = load(context.out.child(directory))
    was, now = (_but_files(config) for config in (artifact.manifest["config"], step.config))
    if was != now or artifact.manifest["stage_schema"] != SCHEMA:
        return None
    return FormerIndex.read(artifact, artifact.facts.get(KEYS_BY_SHARD, {}))


def _but_files(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an index without what says which files there are."""
    kept = {name: value for name, value in config.items() if name != "metadata"}
    return kept | {s: {"kind": kept[s]["kind"]} for s in ("train", "eval") if s in kept}


def _commit(found: IndexRows, draft: Draft, decoding: Mapping[str, Any] | None) -> Artifact:
    """Write the tables of an index."""
    rows, crops = found.all, None if found.crops is None else found.crops.boxes
    bad = found.rows.filter(pc.not_equal(found.rows["status"], OK))
    files = {
        IMAGES: draft.write_table(IMAGES, rows),
        SHARDS: draft.write_table(SHARDS, found.shards),
        "quarantine.parquet": draft.write_table(
            "quarantine.parquet", bad.select(["gid", "key", "source", "status"]).rename_columns(_QUARANTINE)
        ),
    }
    if crops is not None:
        files[BOXES] = draft.write_table(BOXES, crops)
    if found.metadata is not None:
        files[metadata.METADATA] = draft.write_table(metadata.METADATA, found.metadata)
    facts: dict[str, Any] = {split: _count_ok(rows, split) for split in ("train", "eval")}
    facts |= {"quarantined": len(bad), **{name: found.members[name] for name in _BESIDE}}
    facts |= {KEYS_BY_SHARD: dict(found.roots)} if found.roots else {}
    facts |= {CHANGES: dict(found.changes)} if found.changes["kept"] or found.changes["changed"] else {}
    identity = content_identity(rows, crops)
    if decoding is not None:
        facts[DECODING] = dict(decoding)
        identity = digest([identity, facts[DECODING]])
    return draft.commit(files, facts=facts, identity=identity)


def _summary(facts: Mapping[str, Any]) -> str:
    """What an index holds, in a line."""
    text = f"{facts['train']:,} train, {facts['eval']:,} eval, {facts['quarantined']:,} in quarantine"
    text += ", keys repeat and begin with their shard" if KEYS_BY_SHARD in facts else ""
    text += f", {facts['imageless']:,} samples without image" if facts["imageless"] else ""
    if CHANGES in facts:
        text += "; since the last index: " + ", ".join(f"{n:,} {what}" for what, n in facts[CHANGES].items())
    return text


def _unchanged(
    recipe: Recipe, done: Mapping[str, Artifact], step: Step, context: Context
) -> tuple[dict[str, Listing], Boxes | None]:
    """Files and boxes as they were planned to be indexed; says what is left out."""
    listings, told_boxes = _listings(context.sources), _boxes(context.sources)
    if _config(recipe, done, listings, told_boxes, context.sources) != step.config:
        raise DataError(
            "the data changes while it is indexed", fix="run again when nothing writes to it any more"
        )
    for line in (line for listing in listings.values() for line in listing.left_out.lines()):
        context.progress.say(f"  {NAME}: {line}")
    return listings, told_boxes


_BESIDE = ("cls", "json", "imageless")
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
            fix="repair or remove them, or allow more with --images.max-bad-fraction and on-bad skip"
            + (f"; {LARGER}" if TOO_LARGE in dict(reasons) else ""),
        )


def _count_ok(rows: pa.Table, split: str) -> int:
    return int(pc.sum(pc.and_(pc.equal(rows["split"], split), pc.equal(rows["status"], OK))).as_py() or 0)
