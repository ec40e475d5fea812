"""The benchmark of clusterings: its scores, its tables, and that finished rows are not done again."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.clustering import averages, load, main, markdown, measured, part, uneven


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A set of two overlapping groups and one of three, weak, in files."""
    rng = np.random.default_rng(0)
    for name, classes in (("dtd10_lite0", 2), ("mnist_weak", 3)):
        labels = np.arange(90) % classes
        features = (np.eye(classes, 5)[labels] * 2 + rng.normal(size=(90, 5))).astype(np.float16)
        np.savez(tmp_path / f"{name}.npz", features=features, labels=labels + 7)
    return tmp_path


def test_accuracy_is_the_best_over_all_one_to_one_matches(data: Path) -> None:
    features, labels = load(data, "mnist_weak")
    assert sorted(set(labels.tolist())) == [0, 1, 2]
    (row,) = measured("mnist_weak", "kmeans", features, labels, 0)
    from benchmarks.clusterers import grouped

    clusters = grouped("kmeans", features, 3, 0)["k-means"]
    best = max(float((np.array(p)[clusters] == labels).mean()) for p in itertools.permutations(range(3)))
    assert row["acc"] == pytest.approx(best, abs=1e-4)


def test_uneven_classes_fall_geometrically_to_a_twentieth(tmp_path: Path) -> None:
    """Of classes of 400, 300 and 300 rows at most 400, 89 and 20 are left, in a seeded order."""
    labels = np.random.default_rng(0).permutation(np.repeat([3, 5, 9], [400, 300, 300]))
    kept = uneven(labels)
    assert sorted(np.unique(labels[kept], return_counts=True)[1].tolist()) in ([20, 89, 300], [20, 89, 400])
    assert len(set(kept.tolist())) == len(kept)
    np.testing.assert_array_equal(kept, uneven(labels))
    rows = np.random.default_rng(1).normal(size=(1000, 4)).astype(np.float32)
    np.savez(tmp_path / "dtd10_lite0.npz", features=rows, labels=labels)
    features, classes = load(tmp_path, "dtd10_lite0_uneven")
    np.testing.assert_array_equal(features, rows[kept])
    np.testing.assert_array_equal(classes, np.searchsorted([3, 5, 9], labels[kept]))
    assert part("dtd10_lite0_uneven") == "choice"
    row = {"set": "dtd10_lite0_uneven", "method": "m", "acc": 0.5, "nmi": 0.5, "ari": 0.5, "seconds": 1.0}
    assert set(averages([row])) == {"all", "uneven"}


def test_finished_rows_are_not_done_again(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [
        "--data",
        str(data),
        "--json",
        str(data / "r.json"),
        "--sets",
        "dtd10_lite0",
        "--methods",
        "kmeans,pca",
    ]
    main([*asked, "--seeds", "0"])
    book = data / "r.jsonl"
    first = book.read_text().splitlines()
    assert len(first) == 2
    main([*asked, "--seeds", "0,1", "--markdown", str(data / "r.md")])
    lines = book.read_text().splitlines()
    assert lines[:2] == first
    assert [json.loads(line)["seed"] for line in lines] == [0, 0, 1, 1]
    written = json.loads((data / "r.json").read_text())
    assert len(written["details"]["rows"]) == 4
    assert "| dtd10_lite0 | choice |" in (data / "r.md").read_text()
    assert "k-means" in capsys.readouterr().out


def test_means_are_over_sets_of_means_over_seeds() -> None:
    def row(name: str, method: str, seed: int, acc: float) -> dict[str, object]:
        return {
            "set": name,
            "method": method,
            "seed": seed,
            "acc": acc,
            "nmi": 0.5,
            "ari": 0.5,
            "seconds": 1.0,
        }

    rows = [
        row("gtsrb_lite0", "a", 0, 0.2),
        row("gtsrb_lite0", "a", 1, 0.4),
        row("digits", "a", 0, 0.9),
        row("digits", "b", 0, 0.8),
        row("gtsrb_weak", "a", 0, 0.1),
    ]
    found = averages(rows)
    assert found["strong"] == {"a": pytest.approx({"acc": 0.6, "nmi": 0.5, "ari": 0.5, "seconds": 1.0})}
    assert found["strong, untouched"]["a"]["acc"] == pytest.approx(0.3)
    assert found["weak"]["a"]["acc"] == pytest.approx(0.1)
    assert "| gtsrb_lite0 | untouched | 0.300 +-0.100 |  |" in markdown(rows)


def test_parts_are_those_of_the_note() -> None:
    names = ["digits", "blood_pbc_weak", "mnist_lite0", "rsscn7_lite0"]
    assert [part(name) for name in names] == ["choice", "choice", "untouched", "check"]


def test_unknown_methods_are_refused(data: Path) -> None:
    with pytest.raises(SystemExit):
        main(["--data", str(data), "--json", str(data / "r.json"), "--methods", "magic"])
