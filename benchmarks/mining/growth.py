"""Time and memory of mining ever more vectors at a recall of 0.99, with the approximate search.

    python -m benchmarks.mining.growth --json FILE [--rows 320292 640584 1281167]

Clustered vectors, 128 wide, K = 20, two shards of one thread, the whole stage on a Ray that is warm: hashing,
lists, exact answers, search, check. `growth_exponent` is the slope of log seconds over log rows.

All sizes are drawn from one mixture of 1,000 clusters, like parts of one set, whose variance
falls with the dimension as that of features does (`SPECTRUM`). How many lists have to be read hangs on that.
Where all 128 dimensions are alike (--spectrum 0), rows within a cluster are all about equally far from each
other, and lists are of little help.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import MIN_ROUNDS, Options, Report, Times, peak_bytes
from benchmarks.mining.sets import clustered
from benchmarks.mining.through_ray import K, embedded, local_ray, workers
from rayscan.artifacts import Artifact
from rayscan.config import FleetConfig, MineConfig, Recipe, ScanLossConfig
from rayscan.console.progress import Progress
from rayscan.context import Context, Sources
from rayscan.fleet.connect import Fleet
from rayscan.stages import mine
from rayscan.storage import Place

SIZES = (320_292, 640_584, 1_281_167)
"""A quarter, a half and all of ImageNet's train images."""
CLUSTERS = 1000
SPECTRUM = 1.65
"""That of the first 128 components of features of 60,000 CIFAR-10 images by `benchmarks.cpu_cifar10`."""


def growth(
    _asked: Options, report: Report, sizes: Sequence[int] = SIZES, spectrum: float = SPECTRUM
) -> dict[str, Times]:
    """Mine ever more clustered vectors at a recall of 0.99."""
    took, facts = dict[int, float](), list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as folder, local_ray():
        for number, num_rows in enumerate((min(20_000, *sizes), *sizes)):  # the first warms Ray up
            root = Place(folder).child(f"{number}-{num_rows}")
            rows = clustered(num_rows, 128, seed=4, num_clusters=CLUSTERS, spectrum=spectrum)
            embed = embedded(root, rows)
            del rows
            seconds, artifact, peak = _mine_stage(root, embed)
            shutil.rmtree(root.uri.removeprefix("file://"))
            if number:
                took[num_rows] = seconds
                facts.append({"rows": num_rows, "seconds": seconds, "actor_bytes": peak, **artifact.facts})
    logs = np.log(list(took)), np.log(list(took.values()))
    report.value("growth_exponent", float(np.polyfit(*logs, 1)[0]), goal=("<=", 1.55))
    report.value("growth_recall", min(f["recall"] for f in facts), goal=(">=", 0.99))
    report.detail("growth", facts)
    return {}


def _mine_stage(root: Place, embed: Artifact) -> tuple[float, Artifact, int]:
    """Seconds of the whole stage, its result, and the most memory an actor held."""
    config = MineConfig(num_neighbors=K, search="approximate", num_shards=2)
    recipe = Recipe(name="benchmark", mine=config, scan=ScanLossConfig(num_neighbors=K))
    sources, done = Sources(data=None), {"embed": embed}
    context = Context(root, sources, Fleet(FleetConfig(num_workers=2), root), Progress())
    peak, is_over = [0], threading.Event()

    def watch() -> None:
        while not is_over.wait(1.0):
            peak[0] = max(peak[0], *(peak_bytes(pid) for pid in workers(b"ray::ShardActor")), 0)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    began = time.perf_counter()
    artifact = mine.run(recipe, done, mine.plan(recipe, done, sources), context)
    seconds = time.perf_counter() - began
    is_over.set()
    thread.join()
    return seconds, artifact, peak[0]


def main() -> None:
    """Measure the sizes asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES, metavar="N")
    parser.add_argument("--spectrum", type=float, default=SPECTRUM, metavar="A")
    given = parser.parse_args()
    asked = Options(quick=False, json=given.json, rounds=MIN_ROUNDS)
    report = Report(asked, "growth")
    report.finish(growth(asked, report, given.rows, given.spectrum))


if __name__ == "__main__":
    main()
