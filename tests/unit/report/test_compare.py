"""Mean and deviation over seeds, grouped by settings and images."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from rayscan.artifacts import Artifact, Draft, Step
from rayscan.config import FleetConfig, Recipe, ReportConfig, ScanLossConfig
from rayscan.errors import DataError
from rayscan.report.compare import compare
from rayscan.storage import Place

BASE = Recipe(name="digits", num_clusters=10)


@dataclass
class StoredRun:
    """A run with an index on disk and scores in memory."""

    place: Place
    recipe: Recipe
    scores: Mapping[str, Any]
    images: str = "same images"
    edits: str = ""

    def artifact(self, stage: str) -> Artifact:
        assert stage == "index"
        return Draft(self.place, Step("index", 1, {"of": self.images})).commit({}, identity=self.images)


def run(folder: Path, name: str, recipe: Recipe, acc: float, **changes: Any) -> StoredRun:
    scan, kmeans = {"acc": acc, "nmi": acc / 2}, {"acc": acc - 0.2, "nmi": acc / 4}
    splits = {"train": {"methods": {"scan": scan, "kmeans": kmeans}}}
    return StoredRun(Place(str(folder / name)), recipe, {"splits": splits}, **changes)


def test_mean_and_sample_deviation_over_seeds(tmp_path: Path) -> None:
    accs = [0.91, 0.95, 0.93]
    runs = [run(tmp_path, str(s), replace(BASE, seed=s), acc) for s, acc in enumerate(accs)]
    rows = json.loads(compare(runs, as_json=True))
    assert [(r["split"], r["method"], r["runs"], r["seeds"]) for r in rows] == [
        ("train", "scan", 3, [0, 1, 2]),
        ("train", "kmeans", 3, [0, 1, 2]),
    ]
    assert rows[0]["scores"]["acc"]["mean"] == pytest.approx(statistics.mean(accs))
    assert rows[0]["scores"]["acc"]["std"] == pytest.approx(0.02)
    text = compare(runs).splitlines()
    assert text[1].split()[:5] == ["digits", "train", "scan", "3", "93.00+-2.00"]
    assert text[2].split()[:5] == ["digits", "train", "kmeans", "3", "73.00+-2.00"]


def test_a_run_that_was_edited_is_a_group_by_itself(tmp_path: Path) -> None:
    runs = [
        run(tmp_path, "a", BASE, 0.5),
        run(tmp_path, "b", replace(BASE, seed=1), 0.7),
        run(tmp_path, "c", BASE, 0.9, edits="abc"),
    ]
    rows = json.loads(compare(runs, as_json=True))
    assert [(r["group"], r["runs"]) for r in rows if r["method"] == "scan"] == [
        ("digits", 2),
        ("digits edited=abc", 1),
    ]


def test_a_single_run_has_no_deviation(tmp_path: Path) -> None:
    (row, _) = json.loads(compare([run(tmp_path, "a", BASE, 0.5)], as_json=True))
    assert row["scores"]["acc"] == {"mean": 0.5, "std": None}
    assert "+-" not in compare([run(tmp_path, "a", BASE, 0.5)])


def test_only_what_changes_a_result_parts_groups(tmp_path: Path) -> None:
    more_heads = replace(BASE, scan=ScanLossConfig(num_heads=7))
    runs = [
        run(tmp_path, "a", BASE, 0.5),
        run(tmp_path, "b", replace(BASE, seed=1, report=ReportConfig(images="none")), 0.6),
        run(tmp_path, "c", replace(BASE, seed=2, fleet=FleetConfig(num_workers=9)), 0.7),
        run(tmp_path, "d", more_heads, 0.8),
    ]
    rows = [r for r in json.loads(compare(runs, as_json=True)) if r["method"] == "scan"]
    assert [(r["group"], r["seeds"]) for r in rows] == [
        ("digits scan.num_heads=1", [0, 1, 2]),
        ("digits scan.num_heads=7", [0]),
    ]


def test_other_images_are_another_group(tmp_path: Path) -> None:
    runs = [run(tmp_path, "a", BASE, 0.5), run(tmp_path, "b", BASE, 0.6, images="more images")]
    groups = {r["group"] for r in json.loads(compare(runs, as_json=True))}
    assert groups == {"digits images=same ima", "digits images=more ima"}


def test_two_runs_of_one_seed_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="same seed"):
        compare([run(tmp_path, "a", BASE, 0.5), run(tmp_path, "b", BASE, 0.5)])
    with pytest.raises(DataError, match="nothing to compare"):
        compare([])


def test_seeds_within_a_run_count_as_runs(tmp_path: Path) -> None:
    one = run(tmp_path, "a", replace(BASE, method="kmeans"), 0.5)
    fits = [{"acc": a, "acc_tr": a - 0.1, "nmi": 0.4, "ami": 0.3, "ari": 0.2} for a in (0.5, 0.6, 0.7)]
    one.scores = {"splits": {"eval": {"methods": {"kmeans": {**fits[1], "seeds": fits}}}}}
    (row,) = json.loads(compare([one], as_json=True))
    assert row["runs"] == 3
    assert row["scores"]["acc_tr"]["mean"] == pytest.approx(0.5)
    assert row["scores"]["acc_tr"]["std"] == pytest.approx(0.1)
    head, line = compare([one], as_table1=True).splitlines()
    assert head.split() == ["Method", "ACC", "ARI", "AMI", "NMI"]
    assert line.split("  ")[0] == "kmeans (digits)"
    assert line.replace(" +- ", "+-").split()[2:] == [
        "50.00+-10.00",
        "20.00+-0.00",
        "30.00+-0.00",
        "40.00+-0.00",
    ]
