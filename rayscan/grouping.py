"""After a run: which of its clusters would join, and one grouping out of several."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rayscan import parquet
from rayscan.artifacts import Artifact
from rayscan.assignments import FILE, WASTE, cluster_numbers
from rayscan.edits.applying import Edited
from rayscan.errors import ArtifactError, ConfigError, DataError
from rayscan.methods import METHODS
from rayscan.metrics.consensus import consensus
from rayscan.metrics.merging import Merging, merge_clusters
from rayscan.out_kinds import require_no_own_file
from rayscan.run import Run
from rayscan.sections import require
from rayscan.storage import split_uri
from rayscan.tables import as_rows
from rayscan.types import Ints

MAX_JOINS = 30
MERGES = "merges.json"
KEPT = ["gid", "id", "source", "key", "split"]
"""Columns of the assignments that those with fewer clusters keep."""


def merge(uri: str, *, to: int | None = None, out: str | None = None) -> str:
    """Write merges.json into the run and, if asked for, assignments with fewer clusters.

    Args:
        uri: `--out` of a finished run with neighbors.
        to: Clusters to end with.
        out: Where the assignments go.

    Returns:
        A table of the last joins, with the modularity after each.

    Raises:
        ConfigError: `to` is not below the number of clusters, or something else is at `out`.
    """
    run = Run(uri)
    address = out or run.place.uri_of(f"assignments-{to}.parquet")
    if to is not None:
        require_free(address, [*KEPT, "cluster"])
    table, neighbors = run.assignments, run.neighbors
    gids, clusters = table["gid"].to_numpy(), table["cluster"].to_numpy().astype(np.int64)
    numbers = cluster_numbers(run.artifact("assign"))
    found = np.where(clusters >= 0, np.searchsorted(numbers, clusters), clusters)
    cluster_of = np.zeros(int(gids.max()) + 1, np.int64)
    cluster_of[gids] = found
    anchors = neighbors["gid"].to_numpy()
    merging = merge_clusters(cluster_of, anchors, as_rows(neighbors["ids"]), len(numbers))
    shown = _numbered(merging, numbers)
    run.place.write(MERGES, json.dumps(_as_json(shown), indent=2).encode())
    text = _table(shown, run.cluster_names) + f"all steps: {run.place.uri_of(MERGES)}\n"
    if to is None:
        return text
    held = len(merging.joins) + 1
    require(1 <= to <= held, "to", f"1..{held}, the clusters that hold images", to)
    renamed = pa.array(np.where(found >= 0, merging.mapping(to)[found], WASTE).astype(np.int32))
    _write(table.select(KEPT).append_column("cluster", renamed), address)
    return text + f"{to} clusters: {address}\n"


def _numbered(merging: Merging, numbers: Ints) -> Merging:
    """Return the steps with clusters by their numbers: edited clusters leave numbers out."""
    joins = (replace(j, into=int(numbers[j.into]), joined=int(numbers[j.joined])) for j in merging.joins)
    return replace(merging, joins=tuple(joins))


def _as_json(merging: Merging) -> dict[str, object]:
    return {
        "suggested_clusters": merging.suggested,
        "modularity": merging.start,
        "joins": [vars(join) for join in merging.joins],
    }


def _table(merging: Merging, names: dict[int, str]) -> str:
    """Return the joins near the suggested number of clusters as text, in the order they happen."""
    suggested = merging.suggested
    around = [j for j in merging.joins if j.clusters_left < suggested + MAX_JOINS][:MAX_JOINS]
    lines = [f"{merging.num_clusters} clusters, modularity {merging.start:.4f}; highest with {suggested}"]
    for join in around:
        mark = "  <- highest" if join.clusters_left == suggested else ""
        lines.append(
            f"{join.clusters_left:6} left: {names[join.joined]} joins {names[join.into]}, "
            f"gain {join.gain:+.4f}, modularity {join.modularity:.4f}{mark}"
        )
    return "\n".join(lines) + "\n"


def write_consensus(uris: Sequence[str], out: str) -> str:
    """Write the consensus of several runs, or of the heads of one.

    Returns:
        Text that says how well the groupings agree.

    Raises:
        DataError: the runs are not over the same images, or differ in their number of clusters.
        ConfigError: there is only one grouping, or something else is at `out`.
    """
    require_free(out, ["gid", "cluster", "agreement"])
    runs = [Run(uri) for uri in uris]
    gids, groupings = _heads(runs[0]) if len(runs) == 1 else _assignments(runs)
    if len(groupings) < 2:
        raise ConfigError(
            "a consensus needs several groupings",
            expected="two runs, or a run with several heads on embeddings or of method sela",
            got="one",
            where="rayscan consensus",
            fix="pass more runs, or --scan.num-heads 10",
        )
    found = consensus(groupings, runs[0].recipe.clusters)
    table = {
        "gid": pa.array(gids, pa.int64()),
        "cluster": pa.array(found.clusters.astype(np.int32)),
        "agreement": pa.array(found.agreement.astype(np.float32)),
    }
    _write(pa.table(table), out)
    warning = "; below 0.6: try another number of clusters" if found.stability < 0.6 else ""
    return (
        f"{len(groupings)} groupings of {len(gids):,} images: mean pairwise ARI "
        f"{found.stability:.4f}{warning}\n"
        f"{(found.agreement == 1).mean():.1%} of the images have one cluster in all\n"
        f"consensus: {out}\n"
    )


def _assignments(runs: Sequence[Run]) -> tuple[Ints, Ints]:
    """Return gids [N], and their clusters in every run [R, N]."""
    if len({(run.artifact("index").identity, run.recipe.num_clusters) for run in runs}) > 1:
        raise DataError(
            "the runs cannot be combined",
            expected="the same images and the same num_clusters",
            got=", ".join(f"{run.place.uri}: {run.recipe.num_clusters} clusters" for run in runs),
            fix="pass runs that differ in seed or settings alone",
        )
    tables = [Edited.read(run).original.read_table(FILE) for run in runs]  # seeds agree or not, not people
    groupings = np.stack([table["cluster"].to_numpy().astype(np.int64) for table in tables])
    return tables[0]["gid"].to_numpy(), groupings


def _heads(run: Run) -> tuple[Ints, Ints]:
    """Return gids of the train images [N], and their clusters by every head of a run [H, N]."""
    stage, name = METHODS[run.recipe.method].heads or ("", "")
    if stage in run.record["stages"] and name in (artifact := run.artifact(stage)).files:
        return _columns(artifact, name)
    raise ArtifactError(
        "the run has no clusters of several heads",
        expected="a scan on embeddings, or method sela",
        where=run.place.uri,
        fix="run it with --scan.inputs both, or pass several runs",
    )


def _columns(artifact: Artifact, name: str) -> tuple[Ints, Ints]:
    table = artifact.read_table(name)
    heads = [n for n in table.column_names if n.startswith("head_")]
    return table["gid"].to_numpy(), np.stack([table[n].to_numpy().astype(np.int64) for n in heads])


def require_free(address: str, columns: Sequence[str]) -> None:
    """Refuse an address that holds anything but an earlier table of the same kind.

    Raises:
        ConfigError: naming what is there.
    """
    place, name = split_uri(address)
    require_no_own_file(place, name)
    found: object = None
    if place.size(name) is not None:
        try:
            found = pq.read_schema(pa.BufferReader(place.read(name))).names
        except pa.ArrowInvalid:
            found = "a file that is no Parquet"
    elif place.child(name).names():
        found = "a folder"
    if found not in (None, list(columns)):
        raise ConfigError(
            "there is something of another kind at OUT",
            expected=f"a free address, or an earlier table of {', '.join(columns)}",
            got=found,
            where=address,
            fix="choose another address; nothing was written",
        )


def _write(table: pa.Table, address: str) -> None:
    place, name = split_uri(address)
    place.write(name, parquet.encoded(table))
