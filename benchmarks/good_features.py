"""SCAN's Table 3, Fig. 7 and a sweep of its entropy weight on features of a good network, consensus beside.

    python -m benchmarks.good_features --data DIR --json F [--sets A,B] [--tasks scan,weight] [--seeds 0,1,2]

DIR holds `<set>_lite0.npz` as for `benchmarks.clustering`. Heads are trained on the frozen features by the
code of the stages scan and selflabel; nothing is trained on images. Every finished (set, task, seed) is some
lines of F with the ending .jsonl and is not done again: the same command goes on. `--markdown` writes tables.

`long_tail` is CIFAR-10's test split with 1,000 images of class 0 down to 100 of class 9, in equal ratios: the
same features, and clusters of equal size are wrong. Its labels choose its images and nothing else.
`--quick`: blood cells, seed 0, few epochs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.clusterers import grouped
from benchmarks.clustering import load
from benchmarks.harness import Options, Report
from benchmarks.trained_heads import ADAM, SCAN, self_labelled, with_heads
from rayscan.config import Recipe, SelfLabelConfig
from rayscan.consensus.neighbors import unit_rows
from rayscan.metrics.contingency import Contingency
from rayscan.metrics.label_free import collapse
from rayscan.metrics.scores import partition_scores
from rayscan.sections import with_values

CIFAR, LONG_TAIL = "cifar_test_160_lite0", "long_tail"
SETS = (CIFAR, "blood_pbc_lite0", "grocery_lite0", LONG_TAIL)
RATIO = 10
"""Largest over smallest class of `long_tail`."""
HEADS = 3
SELFLABEL = SelfLabelConfig(inputs="embeddings", epochs=50, optimizer=ADAM, ema_decay=0.99)
"""The paper's threshold .99 and batch 1,000; Adam at 0.01 as for the heads, since features are frozen."""
WEIGHTS = (0.5, 1.0, 2.0, 5.0, 10.0)
NEIGHBORS = (5, 10, 20, 50)
PAPER_WEIGHT, PAPER_K = 5.0, 20
SCORES = ("acc", "many_to_one", "nmi", "ari", "balance")

Clusters = NDArray[Any]
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """Unit rows to cluster, and the recipe of SCAN as the paper has it."""

    rows: NDArray[np.float32]
    recipe: Recipe

    def of(self, settings: Mapping[str, Any]) -> Recipe:
        """The recipe with other settings."""
        return with_values(self.recipe, settings)


def kmeans(case: Case) -> Iterator[tuple[str, Clusters]]:
    """k-means, and with twice as many clusters."""
    for title, times in (("k-means", 1), ("k-means, 2C", 2)):
        yield title, grouped("kmeans", case.rows, times * case.recipe.clusters, case.recipe.seed)["k-means"]


def scan(case: Case) -> Iterator[tuple[str, Clusters]]:
    """SCAN before and after self-labelling."""
    before, after, is_kept = self_labelled(case.recipe, case.rows)
    yield "SCAN", before
    yield "SCAN, self-labelled", after
    yield "SCAN, self-labelled, guarded", after if is_kept else before


def over(case: Case) -> Iterator[tuple[str, Clusters]]:
    """SCAN with twice as many clusters as classes."""
    yield "SCAN, 2C", with_heads(case.of({"num_clusters": 2 * case.recipe.clusters}), case.rows, "scan")


def one(title: str, settings: Mapping[str, Any], case: Case) -> Iterator[tuple[str, Clusters]]:
    """SCAN with other settings."""
    yield title, with_heads(case.of(settings), case.rows, "scan")


def ours(case: Case) -> Iterator[tuple[str, Clusters]]:
    """Consensus."""
    yield "consensus", grouped("consensus", case.rows, case.recipe.clusters, case.recipe.seed)["consensus"]


def settings_of(weight: float = PAPER_WEIGHT, k: int = PAPER_K, start: str = "random") -> dict[str, Any]:
    """Settings of a row of the sweeps."""
    return {"scan.entropy_weight": weight, "scan.num_neighbors": k, "scan.start": start}


Task = Callable[[Case], Iterator[tuple[str, Clusters]]]
TASKS: dict[str, Task] = {
    "kmeans": kmeans,
    "scan": scan,
    **{
        f"weight {w:g}": partial(one, f"lambda {w:g}", settings_of(weight=w))
        for w in WEIGHTS
        if w != PAPER_WEIGHT
    },
    "over": over,
    **{
        f"grouping {w:g}": partial(one, f"grouping, lambda {w:g}", settings_of(weight=w, start="grouping"))
        for w in (1.0, PAPER_WEIGHT)
    },
    **{f"K {k}": partial(one, f"K {k}", settings_of(k=k)) for k in NEIGHBORS if k != PAPER_K},
    "consensus": ours,
}


def long_tail(data: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features and classes of the uneven CIFAR-10."""
    with np.load(data / f"{CIFAR}.npz", allow_pickle=False) as stored:
        features, labels = stored["features"].astype(np.float32), stored["labels"].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(labels))
    num_classes = int(labels.max()) + 1
    largest = int(np.bincount(labels).min())
    kept = [
        order[labels[order] == c][: round(largest * RATIO ** (-c / (num_classes - 1)))]
        for c in range(num_classes)
    ]
    chosen = np.sort(np.concatenate(kept))
    return features[chosen], labels[chosen]


def measured(name: str, task: str, case: Case, labels: NDArray[np.int64]) -> list[Row]:
    """Scores of what a task finds; labels are read after it has ended."""
    begun = time.perf_counter()
    found = list(TASKS[task](case))
    seconds = round(time.perf_counter() - begun, 1)
    rows = []
    for title, clusters in found:
        num_clusters = max(case.recipe.clusters, int(clusters.max()) + 1)
        scores = partition_scores(Contingency.count(clusters, labels, num_clusters, int(labels.max()) + 1))
        scores |= collapse(clusters, num_clusters)
        row = {"set": name, "task": task, "row": title, "seed": case.recipe.seed, "seconds": seconds}
        rows.append(row | {key: round(scores[key], 4) for key in SCORES})
        print(
            f"{name:22} {title:30} seed {case.recipe.seed}  ACC {scores['acc']:.3f}  {seconds} s", flush=True
        )
    return rows


def markdown(rows: Sequence[Row]) -> str:
    """A table for each score, rows down, sets across: mean, half the range and number of the seeds."""
    text = []
    sets = [name for name in SETS if any(row["set"] == name for row in rows)]
    titles = list(dict.fromkeys(row["row"] for task in TASKS for row in rows if row["task"] == task))
    for score in SCORES:
        text += [f"{score}:", "", _line(["", *sets]), _line(["---"] * (1 + len(sets)))]
        for title in titles:
            values = [[r[score] for r in rows if (r["set"], r["row"]) == (name, title)] for name in sets]
            text.append(_line([title, *map(_cell, values)]))
        text.append("")
    return "\n".join(text)


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    half = f" +-{(max(values) - min(values)) / 2:.3f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3f}{half} ({len(values)})"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="blood cells, seed 0, few epochs")
    parser.add_argument("--data", type=Path, metavar="DIR", required=True, help="where the features lie")
    parser.add_argument("--json", type=Path, metavar="F", required=True, help="report; finished rows beside")
    parser.add_argument("--markdown", type=Path, metavar="F", help="also write the tables there")
    parser.add_argument("--sets", type=lambda text: text.split(","), default=list(SETS))
    parser.add_argument("--tasks", type=lambda text: text.split(","), default=list(TASKS))
    parser.add_argument("--seeds", type=lambda text: [int(s) for s in text.split(",")], default=[0, 1, 2])
    asked = parser.parse_args(arguments)
    if asked.quick:
        asked.sets, asked.seeds = ["blood_pbc_lite0"], [0]
    if unknown := set(asked.tasks) - TASKS.keys():
        parser.error(f"--tasks {','.join(sorted(unknown))}: known are {','.join(TASKS)}")
    return asked


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not there yet, seed by seed; report all that is."""
    asked = parsed(arguments)
    book = asked.json.with_suffix(".jsonl")
    book.parent.mkdir(parents=True, exist_ok=True)
    lines = book.read_text(encoding="ascii").splitlines() if book.exists() else []
    rows: list[Row] = [json.loads(line) for line in lines]
    done = {(row["set"], row["task"], row["seed"]) for row in rows}
    settings = replace(SCAN, num_heads=HEADS, head_epochs=3 if asked.quick else SCAN.head_epochs)
    for seed in asked.seeds:
        for name in asked.sets:
            features, labels = long_tail(asked.data) if name == LONG_TAIL else load(asked.data, name)
            recipe = Recipe(
                name="scan", num_clusters=int(labels.max()) + 1, scan=settings, selflabel=SELFLABEL, seed=seed
            )
            case = Case(unit_rows(features), recipe)
            for task in asked.tasks:
                if (name, task, seed) in done:
                    continue
                found = measured(name, task, case, labels)
                rows += found
                with book.open("a", encoding="ascii") as file:
                    file.writelines(json.dumps(row) + "\n" for row in found)
    report = Report(Options(asked.quick, asked.json, 1), "good_features")
    report.detail("rows", rows)
    report.finish()
    if asked.markdown:
        asked.markdown.write_text(markdown(rows), encoding="ascii")


if __name__ == "__main__":
    main()
