"""Stage report: everything a run has -> one self-contained page, `index.html`.

A prediction has less: its images, their assignments, and under `MODEL` the result of another run that
assigned them. Its page shows clusters, pictures and confidence, and nothing of a training.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from importlib import metadata
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rayscan.artifacts import Artifact, Step
from rayscan.cluster_names import edited_names
from rayscan.config import Recipe
from rayscan.context import Context, Sources
from rayscan.data.reader import Reader
from rayscan.data.table import ImageTable
from rayscan.edits.history import fingerprint_of
from rayscan.edits.result import first_free
from rayscan.naming.stored import proposed_names
from rayscan.report.content import Cluster, Content, Curve, Heads, Neighbors, Picture, Quarantined
from rayscan.report.features import feature_note
from rayscan.report.fetched import fetching
from rayscan.report.near_copies import near_copies, outliers
from rayscan.report.page import render
from rayscan.report.thumbnails import Read, fill, round_robin
from rayscan.sections import semantic
from rayscan.stages import consensus, howmany
from rayscan.stages.duplicates import FOUND
from rayscan.stages.duplicates import NAME as COPIES
from rayscan.stages.evaluate import label_free_facts
from rayscan.types import Ints
from rayscan.vectors.neighbor_table import CHOSEN

NAME = "report"
SCHEMA = 1
MODEL = "model"
"""In `done`: the trained model of another run, where images were predicted."""
QUARANTINE = "quarantine.parquet"
CONFIDENCE_BINS = 20
NUM_ANCHORS = 8
NEIGHBORS_PER_ANCHOR = 8
MAX_QUARANTINED = 200
PACKAGES = ("ray", "torch", "faiss-gpu", "faiss-cpu", "numpy", "pyarrow")


def plan(recipe: Recipe, done: Mapping[str, Artifact], _sources: Sources) -> Step:
    """Return the step: settings of the page, every result it shows, and the names that a user gave."""
    inputs = {name: artifact.identity for name, artifact in done.items() if name != NAME}
    names = edited_names(done["assign"])
    named = {"names": {str(number): name for number, name in names.items()}} if names else {}
    return Step(NAME, SCHEMA, {**semantic(recipe.report), **named}, inputs)


def run(recipe: Recipe, done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
    """Write the page, with as many pictures as its cap allows."""
    assigned = done["assign"].read_table("assignments.parquet")
    names = {int(number): name for number, name in step.config.get("names", {}).items()}
    clusters = _clusters(done["assign"], assigned, names, recipe.report.images_per_cluster // 2)
    proposed = proposed_names(done.get("names"))
    clusters = [replace(cluster, proposed=proposed.get(cluster.number, ())) for cluster in clusters]
    neighbors = _neighbors(done["mine"], recipe.seed) if "mine" in done else []
    content = _content(recipe, done, context, assigned, clusters)
    groups = [*(content.copies.groups if content.copies else ()), [gid for gid, _ in content.outliers]]
    wanted = round_robin([*([n.anchor, *n.ids] for n in neighbors), *groups, *_by_turns(clusters)])
    content = replace(content, neighbors=neighbors, pictures=_pictures(assigned, wanted))
    context.progress.start(NAME, len(wanted), "pictures")
    html = render(_with_thumbnails(content, wanted, done["index"], recipe, context))
    draft = context.draft(step)
    entry = draft.write("index.html", html.encode())
    context.progress.finish(f"{entry.size / 1e6:.1f} MB")
    return draft.commit({"index.html": entry}, facts={"bytes": entry.size})


def _with_thumbnails(
    content: Content, wanted: Sequence[int], index: Artifact, recipe: Recipe, context: Context
) -> Content:
    """Return the content with thumbnails; a note says if some do not fit, or if none are wanted."""
    settings = recipe.report
    if settings.images == "none":
        note = "Pictures were left out on request; names stand for them."
        return replace(content, notes=(*content.notes, note))
    if index.facts.get("pictures") == 0 and not any(p.name for p in content.pictures.values()):
        return replace(content, notes=(*content.notes, "There are embeddings alone: no pictures to show."))
    missed: list[str] = []
    decoded = _decoder(content, index, recipe, missed)

    def read(gids: Ints) -> Sequence[NDArray[np.uint8]]:
        images = decoded(gids)
        context.progress.advance(len(gids))
        return images

    names = {gid: len(json.dumps(picture.name)) for gid, picture in content.pictures.items()}
    room = settings.max_megabytes * 1e6 - len(render(replace(content, pictures={})).encode())
    made = fill(wanted, read, settings.thumbnail_px, room, names.__getitem__)
    pictures = {gid: replace(content.pictures[gid], url=url) for gid, url in made.items()}
    if missed:
        note = (
            f"{len(missed):,} pictures could not be read, such as {missed[0]}; a grey square stands for each."
        )
        content = replace(content, notes=(*content.notes, note))
    if len(made) == len(wanted):
        return replace(content, pictures=pictures)
    note = (
        f"{len(made):,} of {len(wanted):,} pictures fit into report.max_megabytes = "
        f"{settings.max_megabytes:g}; every cluster shows its first ones."
    )
    return replace(content, pictures=pictures, notes=(*content.notes, note))


def _decoder(content: Content, index: Artifact, recipe: Recipe, missed: list[str]) -> Read:
    """Return what decodes pictures by gid: of the index, or from the addresses that embeddings came with."""
    if index.facts.get("pictures") == 0:
        sources = {gid: picture.name for gid, picture in content.pictures.items()}
        return fetching(sources, recipe.images.max_pixels, missed)
    reader = Reader(ImageTable.from_artifact(index))
    return lambda gids: reader.images(gids, recipe.images.decode_threads)


def _content(
    recipe: Recipe,
    done: Mapping[str, Artifact],
    context: Context,
    assigned: pa.Table,
    clusters: Sequence[Cluster],
) -> Content:
    """Collect the content of the page but pictures and neighbors."""
    scores = done["evaluate"].read_json("scores.json") if "evaluate" in done else None
    confidence = assigned.column("confidence").to_numpy()
    splits = assigned.column("split").to_numpy()
    trained = [stage for stage in done if stage != MODEL]
    quarantine = pa.concat_tables(_quarantines(done))
    return Content(
        recipe=asdict(recipe),
        images={name: n for name in ("train", "eval") if (n := int((splits == name).sum()))},
        clusters=clusters,
        label_free=scores["label_free"] if scores else label_free_facts(done),
        notes=_notes(done),
        confidences=np.histogram(confidence, bins=CONFIDENCE_BINS, range=(0.0, 1.0))[0].astype(np.int64),
        copies=near_copies(assigned, done[COPIES].read_json(FOUND)) if COPIES in done else None,
        outliers=outliers(assigned),
        scores=scores,
        curves=[curve for stage in trained for curve in _curves(stage, done[stage])],
        heads=[heads for stage in trained for heads in _heads(stage, done[stage])],
        quarantined=[
            Quarantined(row["source"] or row["key"], row["reason"])
            for row in quarantine.slice(0, MAX_QUARANTINED).to_pylist()
        ],
        num_quarantined=len(quarantine),
        facts=[*_versions(done["assign"]), *_times(context)],
        fingerprint=fingerprint_of(done["assign"]),
        next_cluster=first_free(done["assign"]),
    )


def _quarantines(done: Mapping[str, Artifact]) -> Iterator[pa.Table]:
    """Yield what could not be used: images that do not decode, and those without a usable vector."""
    for name, artifact in done.items():
        if QUARANTINE in artifact.files and name.partition("@")[0] in ("index", "embed"):
            yield artifact.read_table(QUARANTINE, columns=["key", "source", "reason"])


def _notes(done: Mapping[str, Artifact]) -> Sequence[str]:
    features = [feature_note(a.facts) for name, a in done.items() if name.partition("@")[0] == "pretext"]
    if consensus.NAME in done:
        features.append(f"Without labels: {consensus.in_words(done[consensus.NAME].facts)}.")
    if howmany.NAME in done:
        facts = done[howmany.NAME].facts
        features.append(
            f"The number of clusters is what the features suggest, {facts['num_clusters']} between "
            f"{facts['low']} and {facts['high']}: `rayscan howmany` shows others."
        )
    if MODEL in done:
        features.insert(0, f"Predicted: the clusters are those of the model in {done[MODEL].place.uri}.")
    return features


def _clusters(
    assign: Artifact, assigned: pa.Table, names: Mapping[int, str], num_uncertain: int
) -> list[Cluster]:
    """List the clusters, each with its prototypes and its least confident other images."""
    number, gids = assigned.column("cluster").to_numpy(), assigned.column("gid").to_numpy()
    order = np.lexsort((gids, assigned.column("confidence").to_numpy(), number))
    rows = assign.read_json("clusters.json")
    bounds = np.searchsorted(number[order], [(row["cluster"], row["cluster"] + 1) for row in rows])
    clusters = []
    for row, (first, stop) in zip(rows, bounds.tolist(), strict=True):
        typical = row["prototypes"][:num_uncertain]
        doubtful = gids[order[first : min(stop, first + num_uncertain + len(typical))]].tolist()
        clusters.append(
            Cluster(
                number=row["cluster"],
                name=names.get(
                    row["cluster"], "" if row["name"] == f"cluster {row['cluster']}" else row["name"]
                ),
                size=row["size"],
                mean_confidence=row["mean_confidence"],
                prototypes=typical,
                uncertain=[gid for gid in doubtful if gid not in typical][:num_uncertain],
                waste=row.get("waste", ()),
            )
        )
    return clusters


def _by_turns(clusters: Sequence[Cluster]) -> Iterator[Sequence[int]]:
    """Yield the images of each cluster by turns: typical, doubtful, typical, doubtful, ..."""
    for cluster in clusters:
        yield round_robin([cluster.prototypes, cluster.uncertain])


def _neighbors(mine: Artifact, seed: int) -> list[Neighbors]:
    """Draw anchors by the seed, each with the nearest neighbors it is paired with."""
    table = mine.read_table("neighbors.parquet")
    chosen = np.random.default_rng(seed).permutation(len(table))[:NUM_ANCHORS]
    return [
        Neighbors(row["gid"], *(_first_paired(row[name], row.get(CHOSEN)) for name in ("ids", "scores")))
        for row in table.take(pa.array(np.sort(chosen))).to_pylist()
    ]


def _first_paired(values: Sequence[Any], chosen: Sequence[bool] | None) -> list[Any]:
    """Return the first few values; where neighbors were chosen, those of chosen ones."""
    counting = values if chosen is None else [v for v, counts in zip(values, chosen, strict=True) if counts]
    return list(counting[:NEIGHBORS_PER_ANCHOR])


def _pictures(assigned: pa.Table, gids: Sequence[int]) -> dict[int, Picture]:
    """Return name, cluster and confidence of images, by gid."""
    wanted = assigned.filter(pc.is_in(assigned.column("gid"), pa.array(gids, pa.int64())))
    columns = wanted.select(["gid", "source", "key", "cluster", "confidence", "margin"])
    return {
        row["gid"]: Picture(row["source"] or row["key"], row["cluster"], row["confidence"], row["margin"])
        for row in columns.to_pylist()
    }


def _curves(stage: str, artifact: Artifact) -> Iterator[Curve]:
    if "metrics.parquet" not in artifact.files:
        return
    table = artifact.read_table("metrics.parquet")
    names = dict.fromkeys(table.column("name").to_pylist())
    for name in (n for n in names if not n.startswith("seconds_")):
        rows = table.filter(pc.equal(table.column("name"), name)).sort_by("step")
        yield Curve(stage, name, rows.column("epoch").to_numpy(), rows.column("value").to_numpy())


def _heads(stage: str, artifact: Artifact) -> Iterator[Heads]:
    """Yield the held-out losses of a stage that trained more than one head."""
    if "heads.json" not in artifact.files:
        return
    heads = artifact.read_json("heads.json")
    if len(heads["losses"]) > 1:
        yield Heads(stage, heads["losses"], heads["best_head"])


def _versions(assign: Artifact) -> Iterator[tuple[str, str]]:
    yield "rayscan", str(assign.manifest["rayscan"])
    yield "Python", platform.python_version()
    for package in PACKAGES:
        try:
            yield package, metadata.version(package)
        except metadata.PackageNotFoundError:
            continue  # one of the two faiss builds is installed


def _times(context: Context) -> Iterator[tuple[str, str]]:
    """Yield the seconds of the stages that this run did itself."""
    try:
        stages: Mapping[str, Mapping[str, Any]] = json.loads(context.out.read("run.json"))["stages"]
    except FileNotFoundError:
        return
    for name, stage in stages.items():
        if not stage["reused"] and name != NAME:
            yield f"{name} took", f"{stage['seconds']:.1f} s"
