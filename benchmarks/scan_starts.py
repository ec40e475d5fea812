"""What each setting learned from the method consensus brings to SCAN's heads on stored features.

    python -m benchmarks.scan_starts --runs runs/digits-0 runs/digits-1 runs/digits-2 --json digits.json
    python -m benchmarks.scan_starts --features dtd10_lite0.npz --seeds 0 1 2 --json dtd10.json

Heads alone, no self-labelling. A run is the folder of one, NAME-SEED, with its embeddings and labels; its own
seed is used. A file has `features` [N, D], `labels` [N] and `classes`; C is their number. Runs take the
settings of the recipe digits, with `--heads` and `--epochs` others of these; files those below. Columns: the
setting, ACC of every seed in percent, their mean, mean seconds. Labels are read last.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.trained_heads import SCAN, with_heads
from rayscan.artifacts import load
from rayscan.config import Recipe
from rayscan.consensus.neighbors import unit_rows
from rayscan.metrics.contingency import Contingency
from rayscan.metrics.scores import partition_scores
from rayscan.recipes import by_name
from rayscan.sections import with_values
from rayscan.stages.labels import read_classes
from rayscan.storage import Place
from rayscan.vectors.parts import EmbeddingRows

GROUPING = {"scan.start": "grouping"}
CONSENSUS = {"scan.start": "consensus"}
WHITENED = {"mine.space": "whitened"}
VOTE = {"scan.keep": "consensus"}
LIGHT = {"scan.entropy_weight": 1.0}
MI = {"scan.loss": "mi"}
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "as it is": {},
    "start grouping": GROUPING,
    "start consensus": CONSENSUS,
    "mine whitened": WHITENED,
    "entropy weight 1": LIGHT,
    "loss mi": MI,
    "keep consensus": VOTE,
    "grouping, entropy weight 1": GROUPING | LIGHT,
    "grouping, mi": GROUPING | MI,
    "grouping, mi, whitened": GROUPING | MI | WHITENED,
    "grouping, whitened, consensus": GROUPING | WHITENED | VOTE,
    "start consensus, keep consensus": CONSENSUS | VOTE,
    "whitened, consensus": WHITENED | VOTE,
    "grouping, mi, whitened, consensus": GROUPING | MI | WHITENED | VOTE,
}


@dataclass(frozen=True)
class Case:
    """Features to cluster and what they are."""

    name: str
    recipe: Recipe
    features: NDArray[np.float32]
    """Unit rows [N, D]."""
    classes: NDArray[np.int64]
    """[N], read after the heads have been kept."""


def of_run(path: Path, heads: int | None, epochs: int | None) -> Case:
    """The train split of a run of the recipe digits, with fewer heads or epochs if asked for."""
    made = {name: load(Place(str(next(path.glob(f"{name}-*"))))) for name in ("embed", "labels")}
    recipe = replace(by_name("digits"), seed=int(path.name.rpartition("-")[2]))
    settings = replace(
        recipe.scan,
        num_heads=heads or recipe.scan.num_heads,
        head_epochs=epochs or recipe.scan.head_epochs,
    )
    recipe = replace(recipe, scan=settings)
    rows = EmbeddingRows(made["embed"])
    gids = rows.gids[: rows.train_rows]
    known = read_classes(made["labels"], int(rows.gids.max()) + 1).of[gids]
    return Case("digits", recipe, rows.read(0, rows.train_rows), known)


def of_file(path: Path, seed: int) -> Case:
    """A file of features."""
    held = np.load(path, allow_pickle=False)
    recipe = Recipe(name="file", num_clusters=len(held["classes"]), scan=SCAN, seed=seed)
    return Case(path.stem, recipe, unit_rows(held["features"].astype(np.float32)), held["labels"].astype(int))


def accuracy(case: Case, changes: Mapping[str, Any]) -> tuple[float, float]:
    """ACC of the kept head in percent, and seconds of mining, training and keeping."""
    recipe = with_values(case.recipe, dict(changes))
    began = time.monotonic()
    clusters = with_heads(recipe, case.features, "scan")
    seconds = time.monotonic() - began
    count = recipe.clusters
    return 100 * partition_scores(Contingency.count(clusters, case.classes, count, count))["acc"], seconds


def measured(cases: Sequence[Case], names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A row per setting."""
    for name in names:
        found = [accuracy(case, VARIANTS[name]) for case in cases]
        accs, seconds = zip(*found, strict=True)
        yield {"setting": name, "acc": accs, "mean": float(np.mean(accs)), "seconds": float(np.mean(seconds))}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, nargs="*", default=[])
    parser.add_argument("--features", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--heads", type=int, help="heads of each training of a run; as the recipe without it")
    parser.add_argument("--epochs", type=int, help="their epochs, likewise")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    cases = [of_run(path, asked.heads, asked.epochs) for path in asked.runs]
    cases += [of_file(asked.features, seed) for seed in asked.seeds] if asked.features else []
    rows = []
    print("| setting | ACC of each seed | mean | seconds |\n|---|---|---|---|")
    for row in measured(cases, asked.only):
        rows.append(row)
        told = ", ".join(f"{acc:.1f}" for acc in row["acc"])
        print(f"| {row['setting']} | {told} | {row['mean']:.2f} | {row['seconds']:.1f} |", flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
