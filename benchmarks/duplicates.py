"""Near-copies with known alterations: stage duplicates beside features alone and perceptual hashes.

    python -m benchmarks.duplicates --json F [--quick] [--data FOLDER] [--work FOLDER]

    least_recall_SET      the alteration that is found least of resize, recompression, crop, brighter, darker
    precision_SET         groups that show one picture alone, of all groups of two and more
    ..._features, ..._phash, ..._dhash   the same of the rivals, hashes at their best distance of each set
    outliers_knn, _lof    AUROC of 20 strangers from each other set, by the distance to the 50th neighbor as
                          in the column, and by the local outlier factor of scikit-learn; mean over sets

Features are those of lite0. The constants of `rayscan.duplicates` were chosen on imagenet-sample alone. Real
near-copies within a set count as wrong; `mixed_SET` lists what was put together. --work keeps pictures and
runs there, so that a benchmark that was cut off goes on.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors

from benchmarks.copies import hashes
from benchmarks.copies.alterations import ORIGINAL, Collection, collection
from benchmarks.copies.scores import mixed, precision, recalls
from benchmarks.feeding import sets
from benchmarks.harness import Options, Report, options
from rayscan import pipeline
from rayscan.artifacts import Artifact
from rayscan.config import FleetConfig
from rayscan.console.progress import Progress
from rayscan.context import Context, Sources
from rayscan.fleet.connect import Fleet
from rayscan.recipes import by_name
from rayscan.stages import duplicates
from rayscan.storage import Place
from rayscan.vectors.parts import EmbeddingRows

SETS = {
    "imagenet-sample": "*.tar",
    "grocery": "*-000000.tar",
    "blood_pbc": "*-000000.tar",
    "cifar10": "*-test-000000.tar",
}
SIZES = {True: (400, 100), False: (2000, 300)}
"""Pictures of a set, and how many of them are altered: quick, full."""
STRANGERS, K = 20, 50


def main() -> None:
    """Measure and report."""
    asked, data, work = _asked()
    report = Report(asked, "duplicates")
    features: dict[str, np.ndarray] = {}
    with (
        tempfile.TemporaryDirectory() if work is None else nullcontext(work) as folder,
        Fleet(FleetConfig(), Place(str(folder)), print) as machines,
    ):
        for name, pattern in SETS.items():
            shards = sorted((data / name).glob(pattern))
            if not shards:
                for key in ("least_recall", "precision"):
                    report.value(f"{key}_{name}", None)
                continue
            known = collection(shards, Path(folder) / name, *SIZES[asked.quick])
            features[name] = _ours(report, name, known, Path(folder) / f"run-{name}", machines)
            _hashes(report, name, known)
    _outliers(report, features)
    report.finish()


def _asked() -> tuple[Options, Path, Path | None]:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--data", type=Path, default=sets.SHARED)
    parser.add_argument("--work", type=Path)
    own, rest = parser.parse_known_args(sys.argv[1:])
    return options(__doc__, rest), own.data, own.work


def _ours(report: Report, name: str, known: Collection, out: Path, machines: Fleet) -> np.ndarray:
    """The stage as a run does it, by pixels and by features alone; returns the features of the originals.

    All share one Ray: a start takes as long as hundreds of pictures.
    """
    recipe = replace(by_name("custom"), num_clusters=2)
    context = Context(Place(str(out)), Sources(str(known.folder)), machines, Progress())
    done: dict[str, Artifact] = {}
    begun = time.perf_counter()
    for stage in pipeline.stages_until(recipe, duplicates.NAME)[:-1]:
        done[stage.NAME], _ = pipeline.do(stage, recipe, done, context)
    report.detail(f"seconds_{name}_features", time.perf_counter() - begun)
    for compare, suffix in (("pixels", ""), ("features", "_features")):
        wanted = replace(recipe, duplicates=replace(recipe.duplicates, compare=compare))
        begun = time.perf_counter()
        done[duplicates.NAME], _ = pipeline.do(duplicates, wanted, done, context)
        report.detail(f"seconds_{name}_by_{compare}", time.perf_counter() - begun)
        group = _groups(done[duplicates.NAME])
        _score(report, name, suffix, group, known, has_goal=not suffix)
        told = {k: done[duplicates.NAME].facts[k] for k in ("threshold", "copies", "groups")}
        report.detail(f"told_{name}{suffix}", told)
    rows = EmbeddingRows(done["embed"])
    return rows.read(0, rows.train_rows)[known.kind == ORIGINAL]


def _groups(found: Artifact) -> np.ndarray:
    table = found.read_table(duplicates.TABLE)
    own = table["gid"].to_numpy()
    medoid = np.array(
        [m if m is not None else g for g, m in zip(own, table["duplicate_of"].to_pylist(), strict=True)]
    )
    return np.searchsorted(own, medoid)


def _score(
    report: Report, name: str, suffix: str, group: np.ndarray, known: Collection, *, has_goal: bool
) -> None:
    found = recalls(group, known)
    report.detail(f"recalls_{name}{suffix}", found)
    report.detail(f"mixed_{name}{suffix}", mixed(group, known)[:40])
    report.value(f"least_recall_{name}{suffix}", min(found.values()), goal=(">=", 0.95) if has_goal else None)
    report.value(
        f"precision_{name}{suffix}", precision(group, known), goal=(">=", 0.99) if has_goal else None
    )


def _hashes(report: Report, name: str, known: Collection) -> None:
    """Each hash at the distance that has the best sum of least recall and precision: chosen by the labels."""
    begun = time.perf_counter()
    made = hashes.hashes(known)
    report.detail(f"seconds_{name}_hashes", time.perf_counter() - begun)
    for kind, bits in made.items():
        tried: Mapping[int, Any] = {d: hashes.groups(bits, d) for d in hashes.DISTANCES}
        report.detail(
            f"distances_{name}_{kind}",
            {d: [min(recalls(g, known).values()), precision(g, known)] for d, g in tried.items()},
        )
        best = max(tried, key=lambda d: min(recalls(tried[d], known).values()) + precision(tried[d], known))
        report.detail(f"distance_{name}_{kind}", best)
        _score(report, name, f"_{kind}", tried[best], known, has_goal=False)


def _outliers(report: Report, features: Mapping[str, np.ndarray]) -> None:
    """Strangers of every other set among the originals of each."""
    found: dict[str, dict[str, float]] = {"knn": {}, "lof": {}}
    rng = np.random.default_rng(0)
    for home, rows in features.items():
        for other in (name for name in features if name != home):
            strangers = features[other][rng.choice(len(features[other]), STRANGERS, replace=False)]
            x = np.concatenate([rows, strangers]).astype(np.float64)
            is_stranger = np.arange(len(x)) >= len(rows)
            k = min(K, len(rows) - 1)
            near = NearestNeighbors(n_neighbors=k).fit(x).kneighbors()[0][:, -1]
            factor = -LocalOutlierFactor(n_neighbors=k).fit(x).negative_outlier_factor_
            found["knn"][f"{other} in {home}"] = float(roc_auc_score(is_stranger, near))
            found["lof"][f"{other} in {home}"] = float(roc_auc_score(is_stranger, factor))
    for name, scores in found.items():
        report.detail(f"outliers_{name}", dict(sorted(scores.items())))
        report.value(f"outliers_{name}", float(np.mean(list(scores.values()))) if scores else None)


if __name__ == "__main__":
    main()
