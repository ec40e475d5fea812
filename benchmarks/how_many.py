"""Estimated numbers of clusters against the number of classes, on files of features.

    python -m benchmarks.how_many --data DIR --out docs/results/how_many.md

DIR holds the files `<set>_lite0.npz` of `benchmarks.clustering`; the digits come by themselves. Labels
judge alone. Prints a line for each set and seed, and writes the tables.
"""

from __future__ import annotations

import argparse
import math
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.clustering import CHOICE, DIGITS, load
from rayscan.consensus.communities import communities, counted
from rayscan.consensus.graphs import adjacency
from rayscan.consensus.how_many import how_many
from rayscan.consensus.neighbors import unit_rows
from rayscan.consensus.space import make_space

SUGGESTED, NOTED = "suggested", "communities at resolution 0.5"
FEW, MANY = 10, 40


@dataclass(frozen=True)
class Measured:
    """A set and a seed."""

    name: str
    classes: int
    seed: int
    low: int
    high: int
    numbers: Mapping[str, int]
    """Estimator -> number of clusters."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all sets and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args(arguments)
    found: list[Measured] = []
    for name in [DIGITS, *sorted(path.stem for path in asked.data.glob("*_lite0.npz"))]:
        found += measured(asked.data, name, asked.seeds)
        for one in found[-asked.seeds :]:
            print(one.name, one.classes, one.low, one.high, dict(one.numbers), flush=True)
    asked.out.write_text(markdown(found), encoding="ascii")


def measured(data: Path, name: str, seeds: int) -> list[Measured]:
    """All estimators on one set, for each seed."""
    features, labels = load(data, name)
    space = make_space(unit_rows(np.asarray(features, np.float32)))
    rows = []
    for seed in range(seeds):
        found = how_many(space, seed)
        noted = counted(communities(adjacency(space.ids), 0.5, seed))
        numbers = {SUGGESTED: found.suggested, NOTED: noted, **dict(found.table)}
        rows.append(Measured(name, len(np.unique(labels)), seed, found.low, found.high, numbers))
    return rows


def markdown(found: Sequence[Measured]) -> str:
    """The two tables."""
    estimators = list(found[0].numbers)
    lines = [
        "Set | part | classes | range | " + " | ".join(estimators),
        "---|" * (3 + len(estimators)) + "---",
    ]
    for name in dict.fromkeys(one.name for one in found):
        rows = [one for one in found if one.name == name]
        part = "choice" if name.removesuffix("_lite0") in CHOICE else "check"
        ends = f"{min(r.low for r in rows)} to {max(r.high for r in rows)}"
        cells = ["/".join(str(row.numbers[key]) for row in rows) for key in estimators]
        lines.append(" | ".join([name, part, str(rows[0].classes), ends, *cells]))
    heads = [
        "Estimator",
        "error, all",
        "error, C <= 10",
        "within 25 %, C <= 10",
        "within a factor of 2, C >= 40",
    ]
    lines += ["", " | ".join(heads), "---|---|---|---|---"]
    lines += [_summary(found, key) for key in estimators]
    return "\n".join(lines) + f"\n\n{platform.machine()}, Python {platform.python_version()}\n"


def _summary(found: Sequence[Measured], key: str) -> str:
    """Mean |log2(estimate / C)|, and how many of the set-seed pairs are near."""
    errors = [abs(math.log2(one.numbers[key] / one.classes)) for one in found]
    few = [error for one, error in zip(found, errors, strict=True) if one.classes <= FEW]
    near = [abs(one.numbers[key] / one.classes - 1) <= 0.25 for one in found if one.classes <= FEW]
    far = [error <= 1 for one, error in zip(found, errors, strict=True) if one.classes >= MANY]
    cells = [f"{statistics.mean(errors):.2f}", f"{statistics.mean(few):.2f}"]
    return " | ".join([key, *cells, f"{sum(near)} of {len(near)}", f"{sum(far)} of {len(far)}"])


if __name__ == "__main__":
    main()
