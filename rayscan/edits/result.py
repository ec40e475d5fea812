"""An assign artifact made of another one and its edits; the other one stays as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rayscan.artifacts import Artifact, Draft, Step, digest, find
from rayscan.assignments import CLUSTERS, FILE, WASTE
from rayscan.edits.clusters import EditedClusters
from rayscan.edits.history import History, fingerprint_of, name_of
from rayscan.edits.operations import WASTE_NAME
from rayscan.edits.rule import COLUMNS, Rule
from rayscan.storage import Place
from rayscan.tables import row_groups, schema_of, write_tables
from rayscan.types import Ints
from rayscan.vectors.prototypes import ClusterSummary, find_prototypes

SCHEMA = 1


def names_of(assign: Artifact) -> dict[int, str]:
    """Number -> name of the clusters of assignments, as they were written; waste is none."""
    listed = assign.read_json(CLUSTERS)
    return {int(row["cluster"]): str(row["name"]) for row in listed if row["cluster"] != WASTE}


def first_free(assign: Artifact) -> int:
    """Number of the first new cluster: one more than the highest there ever was."""
    return max(int(assign.facts.get("num_clusters", 0)), max(names_of(assign), default=-1) + 1)


def clusters_after(history: History, out: Place, original: Artifact) -> EditedClusters:
    """The clusters of assignments after a history.

    Args:
        history: What was applied.
        out: The run that keeps it.
        original: The assignments as the model made them.

    Raises:
        DataError: an operation does not go with the clusters.
    """
    begun = EditedClusters(names_of(original), first_free(original))
    return history.applied(begun, out.uri_of(name_of(history.fingerprint)))


def step_of(original: Artifact, edited: EditedClusters, *, is_for_new: bool = False) -> Step:
    """What is done to assignments, by what comes out of the operations: their order does not count.

    Args:
        original: The assignments as a model made them.
        edited: Clusters after all operations.
        is_for_new: The assignments are of other images than those that were edited.
    """
    config = {
        "edits": {
            "assignments": fingerprint_of(original),
            "clusters": digest([[n, edited.names[n], edited.now(n)] for n in sorted(edited.names)]),
            "moved": digest([] if is_for_new else sorted(edited.moved.items())),
            "schema": SCHEMA,
        }
    }
    return Step(original.stage, int(original.manifest["stage_schema"]), config, {"assign": original.identity})


def edited_result(
    out: Place,
    original: Artifact,
    edited: EditedClusters,
    embed: Artifact | None,
    *,
    is_for_new: bool = False,
) -> Artifact:
    """The assignments after edits, written unless they are there.

    Args:
        out: Where results go.
        original: The assignments as a model made them.
        edited: Clusters after all operations.
        embed: Features of the same images, for the prototypes; none are marked without it.
        is_for_new: The assignments are of other images than those that were edited.
    """
    if not is_for_new and edited.is_as(names_of(original)):
        return original
    step = step_of(original, edited, is_for_new=is_for_new)
    if (found := find(out.child(step.directory), step)) is not None:
        return found
    rule = Rule(edited, is_for_new=is_for_new)
    listed = original.read_json(CLUSTERS)
    num_prototypes = 0 if embed is None else max(len(row.get("prototypes", ())) for row in listed)
    summary, gids = _summarised(original, edited, rule, num_prototypes)
    prototypes = {} if embed is None or not num_prototypes else find_prototypes(summary, embed)
    draft = Draft(out, step)
    clusters = _cluster_list(edited, summary.cluster_list(gids, prototypes))
    if is_for_new:  # what a model calls waste cannot be restored where it is only used
        clusters = [{k: v for k, v in row.items() if k != "waste"} for row in clusters]
    files = {
        FILE: write_tables(
            draft, FILE, schema_of(original, FILE), lambda: _tables(original, rule, prototypes)
        ),
        CLUSTERS: draft.write_json(CLUSTERS, clusters),
    }
    waste = int(summary.sizes[edited.next_number])
    facts = {
        "rows": len(gids),
        "num_clusters": edited.next_number,
        "used": sum(row["size"] > 0 for row in clusters if row["cluster"] != WASTE),
        "waste": waste,
    }
    return draft.commit(files, facts=facts)


def _summarised(
    original: Artifact, edited: EditedClusters, rule: Rule, num_prototypes: int
) -> tuple[ClusterSummary, Ints]:
    """Sizes and most confident rows of all clusters, with waste as one more at the end; and the gids [N]."""
    summary = ClusterSummary(edited.next_number + 1, num_prototypes)
    gids: list[Any] = []
    for group in row_groups(original, FILE, COLUMNS):
        rows = rule.rows(group)
        summary.add(np.where(rows.clusters == WASTE, edited.next_number, rows.clusters), rows.confidence)
        gids.append(group["gid"].to_numpy())
    return summary, np.concatenate(gids)


def _cluster_list(edited: EditedClusters, listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Clusters that are left, each with the numbers it was joined from, and waste with its own, if any."""
    made_of: dict[int, list[int]] = {}
    for number in sorted(edited.names):
        made_of.setdefault(edited.now(number), []).append(number)
    kept = []
    for number in edited.numbers:
        row = {**listed[number], "name": edited.names[number]}
        kept.append(row if made_of[number] == [number] else {**row, "joined": made_of[number]})
    waste = {**listed[edited.next_number], "cluster": WASTE, "name": WASTE_NAME}
    if waste["size"] or edited.waste:
        kept.append({**waste, "waste": sorted(edited.waste)})
    return kept


def _tables(original: Artifact, rule: Rule, prototypes: dict[int, list[int]]) -> Iterator[pa.Table]:
    rows = np.sort(np.array([row for some in prototypes.values() for row in some], np.int64))
    first = 0
    for group in row_groups(original, FILE):
        begin, stop = np.searchsorted(rows, [first, first + len(group)])
        is_prototype: NDArray[np.bool_] = np.zeros(len(group), bool)
        is_prototype[rows[begin:stop] - first] = True
        first += len(group)
        yield rule.edit(group, is_prototype)
