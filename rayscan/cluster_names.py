"""Names that people gave clusters in `clusters.json`: of a result, and handed on to a prediction."""

from __future__ import annotations

import json
from collections.abc import Mapping

from rayscan.artifacts import Artifact
from rayscan.assignments import CLUSTERS, WASTE
from rayscan.out_kinds import read_record
from rayscan.run import Run
from rayscan.storage import Place, split_query, with_query


def edited_names(assign: Artifact) -> dict[int, str]:
    """Names that a user gave to clusters in the `clusters.json` of the run: number -> name.

    Args:
        assign: Result of stage assign. Another one may be published since, whose names say nothing of this.

    Raises:
        ArtifactError: the file is no longer a list of clusters.
    """
    head, slash, directory = split_query(assign.place.uri)[0].rpartition("/")
    root = Place(with_query(head, split_query(assign.place.uri)[1]))
    record = read_record(root) if slash else None
    if record is None or record.get("published", {}).get(CLUSTERS) != directory or not root.size(CLUSTERS):
        return {}
    own = {int(row["cluster"]): str(row["name"]) for row in assign.read_json(CLUSTERS)}
    return {n: name for n, name in Run(root.uri).cluster_names.items() if n in own and own[n] != name}


def names_by_hand(assign: Artifact) -> dict[int, str]:
    """Those of `edited_names` that are of clusters, not of waste."""
    return {number: name for number, name in edited_names(assign).items() if number != WASTE}


def inherit_names(trained: Run, out: Place, names: Mapping[int, str] | None = None) -> None:
    """Give the clusters of a prediction the names that those of its model have, unless they have some.

    Args:
        trained: The run whose model predicted.
        out: Of the prediction, with its `clusters.json`.
        names: By number; those that a user gave in the run if not given.
    """
    names = edited_names(trained.artifact("assign")) if names is None else names
    clusters = Run(out.uri).clusters
    named = [
        {**c, "name": names.get(c["cluster"], c["name"])} if c["name"] == f"cluster {c['cluster']}" else c
        for c in clusters
    ]
    if named != clusters:
        out.write(CLUSTERS, json.dumps(named, indent=2).encode())
