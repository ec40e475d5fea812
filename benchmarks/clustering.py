"""Clusterings of the same features side by side: k-means, PCA, spectral, UMAP, and consensus.

    python -m benchmarks.clustering --data DIR --json F [--sets A,B] [--methods kmeans,umap] [--seeds 0,1,2]

DIR holds files `<set>_<space>.npz` with `features` [N, D] and `labels` [N]; the digits of scikit-learn (their
64 pixels) come by themselves. C is the number of classes. Sets above 5,000 rows are cut to a seeded sample of
5,000, the same for all methods and seeds. Every finished (set, method, seed) is a line of F with the ending
.jsonl, which is not done again: cut it at any time, the same command goes on. `--markdown` writes the tables.

Constants of our method were chosen on the sets marked "choice" and on no other. The note it comes from
looked at the "check" sets in three places, and at no "untouched" one; docs/results/clustering.md names where
we did. `<name>_uneven` is a part of a set whose classes fall in size, geometrically, to a twentieth.
`--quick`: digits alone, seed 0.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.clusterers import METHODS, grouped
from benchmarks.harness import Options, Report
from rayscan.metrics.assignment import accuracy, hungarian
from rayscan.metrics.contingency import Contingency
from rayscan.metrics.scores import ari, nmi

MAX_ROWS = 5_000
DIGITS = "digits"
CHOICE = ("blood_pbc", "cifar_test_160", "dtd10", "neu_steel", DIGITS)
UNTOUCHED = ("gtsrb", "grocery", "fer2013", "intel_scenes", "mnist", "monkeys10", "caltech101")
WEAK = "_weak"
UNEVEN = "_uneven"
LARGEST_CLASS, SMALLEST_SHARE = 1_000, 0.05
SCORES = ("acc", "nmi", "ari")

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not there yet, report all that is."""
    asked = parsed(arguments)
    book = asked.json.with_suffix(".jsonl")
    book.parent.mkdir(parents=True, exist_ok=True)
    rows = read(book)
    done = {(row["set"], row["family"], row["seed"]) for row in rows}
    for name in asked.sets:
        features, labels = load(asked.data, name)
        for seed in asked.seeds:
            for method in asked.methods:
                if (name, method, seed) in done:
                    continue
                found = measured(name, method, features, labels, seed)
                rows += found
                with book.open("a", encoding="ascii") as file:
                    file.writelines(json.dumps(row) + "\n" for row in found)
    rows = [row for row in rows if row["set"] in asked.sets and row["seed"] in asked.seeds]
    report = Report(Options(asked.quick, asked.json, 1), "clustering")
    for title, means in averages(rows).items():
        report.detail(title, means)
    for method, scores in averages(rows).get("all", {}).items():
        report.value(f"acc: {method}", scores["acc"])
    report.detail("rows", rows)
    report.finish()
    if asked.markdown:
        asked.markdown.write_text(markdown(rows), encoding="ascii")


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="digits alone, seed 0")
    parser.add_argument("--data", type=Path, metavar="DIR", help="where the features lie")
    parser.add_argument("--json", type=Path, metavar="F", required=True, help="report; finished rows beside")
    parser.add_argument("--markdown", type=Path, metavar="F", help="also write the tables there")
    parser.add_argument("--sets", type=lambda text: text.split(","), help="instead of all")
    parser.add_argument("--methods", type=lambda text: text.split(","), default=list(METHODS))
    parser.add_argument(
        "--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1, 2]
    )
    asked = parser.parse_args(arguments)
    if asked.quick:
        asked.sets, asked.seeds = [DIGITS], [0]
    if asked.sets is None:
        asked.sets = [*sorted(path.stem for path in asked.data.glob("*.npz") if asked.data), DIGITS]
    if unknown := set(asked.methods) - METHODS.keys():
        parser.error(f"--methods {','.join(sorted(unknown))}: known are {','.join(METHODS)}")
    return asked


def load(data: Path | None, name: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features and classes 0..C-1 of a set, at most 5,000 rows."""
    features, labels = _stored(data, name.removesuffix(UNEVEN))
    kept = np.arange(len(features))
    if name.endswith(UNEVEN):
        kept = uneven(labels)
    elif len(features) > MAX_ROWS:
        kept = np.random.default_rng(0).permutation(len(features))[:MAX_ROWS]
    return features[kept].astype(np.float32), np.unique(labels[kept], return_inverse=True)[1].astype(np.int64)


def _stored(data: Path | None, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """All rows of a set and their labels."""
    if name == DIGITS:
        from sklearn.datasets import load_digits

        digits = load_digits()
        return digits.data, digits.target
    if data is None:
        raise SystemExit(f"--data DIR is needed for {name}")
    with np.load(data / f"{name}.npz", allow_pickle=False) as stored:
        return stored["features"], stored["labels"]


def uneven(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Rows of a part whose classes, in a seeded order, fall in size geometrically to a twentieth.

    The largest class keeps its rows, 1,000 at most; seed and order are the same for all methods.
    """
    rng = np.random.default_rng(1)
    classes, sizes = np.unique(labels, return_counts=True)
    most = min(int(sizes.max()), LARGEST_CLASS)
    wanted = np.geomspace(most, SMALLEST_SHARE * most, len(classes)).astype(int)
    parts = [
        rng.permutation(np.flatnonzero(labels == classes[number]))[:count]
        for number, count in zip(rng.permutation(len(classes)), wanted, strict=True)
    ]
    return rng.permutation(np.concatenate(parts))


def measured(
    name: str, method: str, features: NDArray[np.float32], labels: NDArray[np.int64], seed: int
) -> list[Row]:
    """Scores of every grouping that a method gives; labels are read after it has ended."""
    num_classes = int(labels.max()) + 1
    begun = time.perf_counter()
    groupings = grouped(method, features, num_classes, seed)
    seconds = time.perf_counter() - begun
    rows = []
    for title, clusters in groupings.items():
        num_clusters = max(num_classes, int(clusters.max()) + 1)
        table = Contingency.count(clusters.astype(np.int64), labels, num_clusters, num_classes)
        scores = {"acc": accuracy(table, hungarian(table)), "nmi": nmi(table), "ari": ari(table)}
        row = {"set": name, "family": method, "method": title, "seed": seed, "seconds": round(seconds, 1)}
        rows.append(row | {key: round(value, 4) for key, value in scores.items()})
        print(f"{name:24} {title:30} seed {seed}  ACC {scores['acc']:.3f}  {seconds:.1f} s", flush=True)
    return rows


def read(book: Path) -> list[Row]:
    """Rows of an earlier run."""
    lines = book.read_text(encoding="ascii").splitlines() if book.exists() else []
    return [json.loads(line) for line in lines]


def part(name: str) -> str:
    """Which choices a set has seen."""
    plain = name.removesuffix(UNEVEN).removesuffix(WEAK).removesuffix("_lite0")
    return "choice" if plain in CHOICE else "untouched" if plain in UNTOUCHED else "check"


def by_set(rows: Iterable[Row]) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Set -> method -> score or seconds -> values of the seeds."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for row in rows:
        of = found.setdefault(row["set"], {}).setdefault(row["method"], {})
        for key in (*SCORES, "seconds"):
            of.setdefault(key, []).append(row[key])
    return found


def averages(rows: Iterable[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """Title -> method -> mean scores over sets, of methods that ran on all of the title's sets."""
    found = by_set(rows)
    strong = [name for name in found if not name.endswith((WEAK, UNEVEN))]
    chosen = {
        "all": list(found),
        "strong": strong,
        "strong, check": [name for name in strong if part(name) != "choice"],
        "strong, untouched": [name for name in strong if part(name) == "untouched"],
        "weak": [name for name in found if name.endswith(WEAK)],
        "uneven": [name for name in found if name.endswith(UNEVEN)],
    }
    return {title: _means({name: found[name] for name in names}) for title, names in chosen.items() if names}


def _means(found: Mapping[str, Mapping[str, Mapping[str, list[float]]]]) -> dict[str, dict[str, float]]:
    methods = [m for m in next(iter(found.values())) if all(m in of for of in found.values())]
    return {
        method: {
            key: round(statistics.fmean(statistics.fmean(of[method][key]) for of in found.values()), 4)
            for key in (*SCORES, "seconds")
        }
        for method in methods
    }


def markdown(rows: Sequence[Row]) -> str:
    """Tables: ACC of each set and method (mean and, of several seeds, half their range), and the means."""
    found = by_set(rows)
    methods = list(dict.fromkeys(row["method"] for row in rows))
    text = [_line(["set", "part", *methods]), _line(["---"] * (2 + len(methods)))]
    for name in sorted(found, key=lambda name: (name.endswith(WEAK), name)):
        cells = [_cell(found[name].get(method, {}).get("acc", [])) for method in methods]
        text.append(_line([name, part(name), *cells]))
    for title, means in averages(rows).items():
        if title == "all":
            continue
        count = sum(_belongs(name, title) for name in found)
        text += ["", f"Means, {title} ({count} sets):", ""]
        text += [_line(["method", "ACC", "NMI", "ARI", "seconds"]), _line(["---"] * 5)]
        text += [
            _line([method, *(f"{of[key]:.3f}" for key in SCORES), f"{of['seconds']:.0f}"])
            for method, of in means.items()
        ]
    return "\n".join(text) + "\n"


def _belongs(name: str, title: str) -> bool:
    if name.endswith((WEAK, UNEVEN)):
        return title == ("weak" if name.endswith(WEAK) else "uneven")
    wanted = {"strong": True, "strong, check": part(name) != "choice", "weak": False, "uneven": False}
    return wanted.get(title, part(name) == "untouched")


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    half = (max(values) - min(values)) / 2
    return f"{statistics.fmean(values):.3f}" + (f" +-{half:.3f}" if len(values) > 1 else "")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
