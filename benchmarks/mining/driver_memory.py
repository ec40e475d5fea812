"""Peak memory of the driver while it mines and evaluates more and more rows: it must not grow with them.

    python -m benchmarks.mining.driver_memory --json FILE [--rows 300000 1200000] [--without-search]

Clustered vectors, 128 wide, a tenth of them the eval split, K = 20, approximate search, 100 clusters, one
fit of k-means beside. Each size is mined and evaluated by a driver in a process of its own, which has
made none of the rows; its peak resident memory is read after each stage. --without-search has tasks make
the lists up instead of searching, and checks none: all that the driver itself does stays, in minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.harness import MIN_ROUNDS, Options, Report, peak_bytes
from benchmarks.mining.growth import SPECTRUM
from benchmarks.mining.sets import clustered
from benchmarks.mining.through_ray import K, embedded
from rayscan.artifacts import Artifact, Draft, FileEntry, Step, load
from rayscan.assignments import CLUSTERS as NUMBERS
from rayscan.assignments import FILE, SCHEMA
from rayscan.config import EvaluateConfig, FleetConfig, MineConfig, Recipe, ScanLossConfig
from rayscan.console.progress import Progress
from rayscan.context import Context, Sources
from rayscan.fleet.connect import Fleet
from rayscan.fleet.search_settings import SearchSettings
from rayscan.stages import baseline, evaluate, mine
from rayscan.storage import Place
from rayscan.tables import as_lists, write_tables
from rayscan.vectors.merge import Block, IndexedRows

SIZES = (300_000, 1_200_000)
CLUSTERS = 100
ROWS_AT_ONCE = 65_536
RECIPE = Recipe(
    name="benchmark",
    num_clusters=CLUSTERS,
    mine=MineConfig(num_neighbors=K, search="approximate", num_shards=2),
    scan=ScanLossConfig(num_neighbors=K),
    evaluate=EvaluateConfig(kmeans_n_init=1, kmeans_max_iter=4),
)


def make_run(root: Place, num_rows: int) -> dict[str, str]:
    """Write what mine and evaluate read; returns the directory of each result."""
    rows = clustered(num_rows, 128, seed=4, num_clusters=1000, spectrum=SPECTRUM)
    embed = embedded(root, rows, num_eval=num_rows // 10)
    draft = Draft(root, Step("assign", 1, {"rows": num_rows}))
    assign = draft.commit(
        {
            FILE: write_tables(draft, FILE, SCHEMA, lambda: _assignments(num_rows)),
            NUMBERS: draft.write_json(NUMBERS, [{"cluster": c} for c in range(CLUSTERS)]),
        },
        facts={"num_clusters": CLUSTERS},
    )
    draft = Draft(root, Step("labels", 1, {"rows": num_rows}))
    labels = pa.table({"gid": np.arange(num_rows), "label": np.arange(num_rows) % CLUSTERS})
    files = {"labels.parquet": draft.write_table("labels.parquet", labels)}
    files["classes.json"] = draft.write_json("classes.json", [f"class {c}" for c in range(CLUSTERS)])
    results = {"embed": embed, "assign": assign, "labels": draft.commit(files)}
    return {name: result.place.uri for name, result in results.items()}


def _assignments(num_rows: int) -> Iterator[pa.Table]:
    rng = np.random.default_rng(0)
    for first in range(0, num_rows, ROWS_AT_ONCE):
        gids = np.arange(first, min(first + ROWS_AT_ONCE, num_rows))
        best = ((gids % CLUSTERS)[:, None] + rng.permuted(np.arange(5))) % CLUSTERS
        probs = np.sort(rng.random((len(gids), 5), np.float32), axis=1)[:, ::-1]
        names = [f"images/{gid:09d}.jpg" for gid in gids.tolist()]
        columns = {
            "gid": gids,
            "id": pa.nulls(len(gids), pa.string()),
            "source": names,
            "key": names,
            "split": ["train" if gid < num_rows - num_rows // 10 else "eval" for gid in gids.tolist()],
            "cluster": best[:, 0].astype(np.int32),
            "confidence": probs[:, 0].copy(),
            "margin": probs[:, 0] - probs[:, 1],
            "top5": as_lists(best.astype(np.int32)),
            "top5_probs": as_lists(probs),
            "is_prototype": np.zeros(len(gids), bool),
            "second": best[:, 1].astype(np.int32),
            "second_confidence": probs[:, 1].copy(),
            "duplicate_of": pa.nulls(len(gids), SCHEMA.field("duplicate_of").type),
            "outlier": pa.nulls(len(gids), SCHEMA.field("outlier").type),
        }
        yield pa.table(columns, schema=SCHEMA)


def made_up(block: Block, k: int, num_rows: int, draft: Draft) -> None:
    """Write lists of a block that could be neighbors: the K rows that come next."""
    ids = (block.rows[:, None] + np.arange(1, k + 1)) % num_rows
    scores = np.broadcast_to(np.linspace(0.9, 0.5, k, dtype=np.float32), ids.shape)
    entries = {
        "ids": draft.write_array(f"{block.name}-ids.npy", ids),
        "scores": draft.write_array(f"{block.name}-scores.npy", scores),
    }
    draft.finish_part(block.name, entries)


def _without_search(
    work: Sequence[Block],
    indexed: IndexedRows,
    draft: Draft,
    settings: SearchSettings,
    on_done: Callable[[Block, bool], None],
) -> list[dict[str, FileEntry]]:
    import ray

    task = ray.remote(num_cpus=0.5)(made_up)
    known, parts = ray.put(draft), list[dict[str, FileEntry]]()
    for block in work:
        ray.get(task.remote(block, settings.num_neighbors, indexed.rows.train_rows, known))
        finished = draft.finished_part(block.name)
        assert finished is not None
        parts.append(finished[0])
        on_done(block, False)
    return parts


def drive(root: Place, directories: dict[str, str], *, searches: bool) -> dict[str, Any]:
    """Mine and evaluate in this process; returns peak bytes and seconds after each stage."""
    recipe = RECIPE
    if not searches:
        recipe = replace(RECIPE, mine=replace(RECIPE.mine, search="exact"))
        mine.mine_blocks, mine._recall = _without_search, lambda *_, **__: 1.0
    done: dict[str, Artifact] = {name: load(Place(uri)) for name, uri in directories.items()}
    sources, facts = Sources(data=None), {"bytes_at_start": peak_bytes()}
    with Fleet(FleetConfig(num_workers=2), root) as fleet:
        context = Context(root, sources, fleet, Progress())
        for stage in (mine, baseline, evaluate):
            began = time.perf_counter()
            done[stage.NAME] = stage.run(recipe, done, stage.plan(recipe, done, sources), context)
            facts[f"seconds_{stage.NAME}"] = round(time.perf_counter() - began, 1)
            facts[f"bytes_after_{stage.NAME}"] = peak_bytes()
    return {**facts, "recall": done["mine"].facts["recall"]}


def main() -> None:
    """Measure the sizes asked for, each in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES, metavar="N")
    parser.add_argument("--without-search", action="store_true")
    parser.add_argument("--drive", nargs=2, metavar=("FOLDER", "DIRECTORIES"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.drive:
        print(
            json.dumps(
                drive(Place(given.drive[0]), json.loads(given.drive[1]), searches=not given.without_search)
            )
        )
        return
    report = Report(Options(quick=False, json=given.json, rounds=MIN_ROUNDS), "driver_memory")
    found = []
    for num_rows in given.rows:
        with tempfile.TemporaryDirectory() as folder:
            directories = make_run(Place(folder), num_rows)
            command = [sys.executable, "-m", "benchmarks.mining.driver_memory"]
            command += ["--drive", folder, json.dumps(directories)]
            command += ["--without-search"] * given.without_search
            told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found.append({"rows": num_rows, **json.loads(told.splitlines()[-1])})
            print(found[-1], flush=True)
    peaks = [facts["bytes_after_evaluate"] for facts in found]
    report.value("driver_growth_mb", (max(peaks) - peaks[0]) / 1e6, goal=("<=", 150))
    report.detail("driver", found)
    report.finish({})


if __name__ == "__main__":
    main()
