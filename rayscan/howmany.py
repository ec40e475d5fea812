"""`rayscan howmany`: how many clusters the features of a run suggest, and how some numbers of them look."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from rayscan.artifacts import Artifact
from rayscan.config import Recipe
from rayscan.consensus.how_many import Estimate, how_many
from rayscan.consensus.neighbors import unit_rows
from rayscan.consensus.quick import quick_grouping
from rayscan.consensus.space import Space
from rayscan.data.reader import Reader
from rayscan.data.table import ImageTable
from rayscan.methods import FINDS
from rayscan.report.howmany import Candidate, Curve, Group, HowManyContent, render
from rayscan.report.thumbnails import fill, round_robin
from rayscan.run import Run
from rayscan.stages.howmany import FOUND, as_json, read_estimate, whitened
from rayscan.types import Ints

PAGE = f"{FINDS}/index.html"
PICTURES, MAX_GROUPS = 8, 60
"""Of each cluster, and clusters shown of each candidate."""
LINES = 16
BAR = 30


def write_howmany(uri: str) -> str:
    """Estimate on this machine, and write howmany/index.html and howmany/howmany.json into the run.

    What stage howmany found already is taken over.

    Args:
        uri: `--out` of a run that has embeddings and neighbors.

    Returns:
        The suggestion, every estimator and the curve as text.

    Raises:
        ArtifactError: the run has no embeddings or no neighbors.
        DataError: there are too few images, or an embedding is not finite.
    """
    run = Run(uri)
    recipe = run.recipe
    gids, space = whitened(recipe, run.artifact("embed"), run.artifact("mine"))
    is_found = FINDS in run.record["stages"]
    found = read_estimate(run.artifact(FINDS)) if is_found else how_many(space, recipe.seed)
    candidates = [
        candidate(space, gids, number, recipe.seed)
        for number in sorted({found.low, found.suggested, found.high})
    ]
    run.place.write(f"{FINDS}/{FOUND}", json.dumps(as_json(found, len(gids)), indent=2).encode())
    page = _content(recipe, found, candidates, len(gids), run.artifact("index"))
    run.place.write(PAGE, render(page).encode())
    return in_words(found) + f"pictures: {run.place.uri_of(PAGE)}\n"


def candidate(space: Space, gids: Ints, num_clusters: int, seed: int) -> Candidate:
    """Clusters at one number, the largest first, each with the images nearest to its mean by cosine.

    Args:
        space: Features, whitened.
        gids: Of its rows, [N].
        num_clusters: C.
        seed: Of the grouping.
    """
    labels, units = quick_grouping(space, num_clusters, seed), unit_rows(space.twice)
    groups = []
    for number in range(min(num_clusters, MAX_GROUPS)):
        members = np.flatnonzero(labels == number)
        nearness = units[members] @ units[members].sum(axis=0)
        typical = members[np.argsort(-nearness, kind="stable")[:PICTURES]]
        groups.append(Group(len(members), gids[typical].tolist()))
    return Candidate(num_clusters, [group for group in groups if group.size])


def in_words(found: Estimate) -> str:
    """The suggestion, every estimator, and the coding length at some numbers around, as text."""
    width = max(len(name) for name, _ in found.table)
    lines = [
        f"suggested: {found.suggested} clusters, between {found.low} and {found.high}",
        f"measured: {found.caution}",
        *(f"  {name:{width}}  {number:6,}" for name, number in found.table),
        "coding length, nats an image; the longer the bar the shorter the code:",
        *_bars(found.curve),
    ]
    return "\n".join(lines) + "\n"


def _bars(curve: Curve) -> list[str]:
    """The curve at numbers in about equal ratios, as bars from its worst to its best."""
    values = dict(curve)
    best = min(values, key=lambda k: (values[k], -k))
    wanted = {int(k) for k in np.round(np.geomspace(1, max(values), LINES))} | {best}
    shown = sorted(wanted & values.keys())
    top, span = max(values[k] for k in shown), max(values[k] for k in shown) - values[best]
    return [
        f"{k:6,}  {values[k]:10.3f}  {'#' * round(BAR * (top - values[k]) / (span or 1))}"
        + "  <- shortest" * (k == best)
        for k in shown
    ]


def _content(
    recipe: Recipe, found: Estimate, candidates: Sequence[Candidate], num_images: int, index: Artifact
) -> HowManyContent:
    """Collect the page, with as many pictures as its cap allows."""
    wanted = round_robin(group.gids for one in candidates for group in one.groups)
    pictures, notes = _pictures(recipe, index, wanted)
    return HowManyContent(
        recipe=recipe.name,
        num_images=num_images,
        suggested=found.suggested,
        low=found.low,
        high=found.high,
        caution=found.caution,
        table=found.table,
        curve=found.curve,
        modularity=found.modularity,
        candidates=candidates,
        pictures=pictures,
        notes=notes,
    )


def _pictures(recipe: Recipe, index: Artifact, wanted: Sequence[int]) -> tuple[dict[int, str], list[str]]:
    """Thumbnails by gid, and what there is to say of those that are missing."""
    settings = recipe.report
    if settings.images == "none":
        return {}, ["Pictures were left out on request."]
    if index.facts.get("pictures") == 0:
        return {}, ["There are embeddings alone: no pictures to show."]
    reader, threads = Reader(ImageTable.from_artifact(index)), recipe.images.decode_threads
    made = fill(
        wanted,
        lambda some: reader.images(some, threads),
        settings.thumbnail_px,
        settings.max_megabytes * 1e6,
        lambda _: 0,
    )
    if len(made) == len(wanted):
        return made, []
    return made, [f"{len(made):,} of {len(wanted):,} pictures fit into report.max_megabytes."]
