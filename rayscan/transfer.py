"""Clusters of a run judged on another set of images: the ObjectNet protocol of arXiv 2008.10312, Appendix C.

The other images go through the same backbone, the same components and the same centroids (or heads).
Deviation: the published code applies the components to the first set only; here both are projected.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np

from rayscan import pipeline
from rayscan.artifacts import Artifact
from rayscan.assignments import Assignments
from rayscan.console.progress import Progress
from rayscan.context import Context, Sources
from rayscan.data.class_map import read_class_map
from rayscan.errors import DataError
from rayscan.fleet.connect import Fleet
from rayscan.metrics.contingency import Contingency
from rayscan.metrics.transfer import allowed_classes, transfer_scores
from rayscan.predict import predict
from rayscan.run import Run
from rayscan.stages import labels as labels_stage
from rayscan.stages.labels import Classes, read_classes
from rayscan.storage import Place

COLUMNS = {"acc_tr": "ACC-tr", "acc_val": "ACC-val", "ari": "ARI", "ami": "AMI", "nmi": "NMI"}


def transfer(run_uri: str, sources: Sources, out_uri: str, class_map: str | None = None) -> dict[str, Any]:
    """Cluster other images by the model of a run and score them.

    Args:
        run_uri: `--out` of a run that was evaluated.
        sources: `data`: the other images; `labels`: theirs, if they are not inside the shards.
        out_uri: Where their assignments and `transfer.json` go.
        class_map: CSV with columns `class` and `maps_to`, a row per pair of names; equal names without it.

    Returns:
        What `transfer.json` says: scores of every seed, and mean and deviation over them.

    Raises:
        ArtifactError: the run has no labels or no model.
        DataError: the labels or the map cannot be used.
    """
    run = Run(run_uri)
    home, home_names = _training_tables(run)
    out = predict(run_uri, sources.data or "", out_uri, reading=sources)
    classes = _labels_of(run, sources, out)
    assign = Run(out_uri).artifact("assign")
    assigned = Assignments.read(assign)
    if assigned.by_seed is None and len(home) > 1:  # edits are of the one fit that people see
        home, _ = _training_tables(run, is_by_seed=False)
    wanted = None if class_map is None else read_class_map(class_map)
    allowed = allowed_classes(classes.names, home_names, wanted)
    labels = np.full(len(assigned.gids), -1, np.int64)
    known = assigned.gids < len(classes.of)
    labels[known] = classes.of[assigned.gids[known]]
    labels[assigned.clusters < 0] = -1  # waste is in no score
    seeds = [
        transfer_scores(clusters, labels, allowed, table)
        for clusters, table in zip(assigned.groupings, home, strict=True)
    ]
    found = {
        "run": run.place.uri,
        "classes": int(allowed.any(axis=1).sum()),
        "seeds": seeds,
        **_summary(seeds),
    }
    out.write("transfer.json", json.dumps(found, indent=2).encode())
    return found


def table_c2(found: Mapping[str, Any]) -> str:
    """Return mean +- deviation in percent as text, with the columns of Table C.2."""
    cells = [
        f"{100 * found['mean'][key]:.2f}" + (f" +- {100 * found['std'][key]:.2f}" if found["std"] else "")
        for key in COLUMNS
    ]
    widths = [max(len(a), len(b)) for a, b in zip(COLUMNS.values(), cells, strict=True)]
    rows = (COLUMNS.values(), cells)
    return "\n".join("  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in rows)


def _summary(seeds: list[dict[str, float]]) -> dict[str, Any]:
    values = {key: [seed[key] for seed in seeds] for key in COLUMNS}
    std = {key: statistics.stdev(v) for key, v in values.items()} if len(seeds) > 1 else None
    return {"mean": {key: statistics.fmean(v) for key, v in values.items()}, "std": std}


def _training_tables(run: Run, *, is_by_seed: bool = True) -> tuple[list[Contingency], list[str]]:
    """By seed, clusters against classes on the labelled train images of the run; and the classes' names."""
    assign, assigned = run.artifact("assign"), Assignments.read(run.artifact("assign"))
    classes = read_classes(run.artifact("labels"), num_images=int(assigned.gids.max()) + 1)
    used = (assigned.split == "train") & (classes.of[assigned.gids] >= 0) & (assigned.clusters >= 0)
    if not used.any():
        raise DataError("no train image of the run has a label", where=run.place.uri, fix="label some")
    labels, num_clusters = classes.of[assigned.gids[used]], int(assign.facts["num_clusters"])
    tables = [
        Contingency.count(clusters[used], labels, num_clusters, len(classes.names))
        for clusters in (assigned.groupings if is_by_seed else assigned.clusters[None])
    ]
    return tables, classes.names


def _labels_of(run: Run, sources: Sources, out: Place) -> Classes:
    """Read the labels of the other images."""
    done: dict[str, Artifact] = {"index": Run(out.uri).artifact("index")}
    if not labels_stage.available(done["index"], sources):
        raise DataError(
            "the other images have no labels",
            expected="--labels FILE, or labels inside the shards",
            where=sources.data,
        )
    progress = Progress()
    with Fleet(run.recipe.fleet, out, progress.say) as fleet:
        context = Context(out, sources, fleet, progress)
        artifact, _ = pipeline.do(labels_stage, run.recipe, done, context)
    return read_classes(artifact, num_images=0)
