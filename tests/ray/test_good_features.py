"""The benchmark of SCAN on good features; no Ray is started."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.good_features import CIFAR, TASKS, long_tail, main

MEANS = np.random.default_rng(0).normal(size=(4, 24))


def save(folder: Path, name: str, sizes: list[int]) -> None:
    """Groups far apart, of these sizes."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rows = MEANS[labels] + 0.1 * np.random.default_rng(1).normal(size=(len(labels), 24))
    np.savez(folder / f"{name}.npz", features=rows.astype(np.float16), labels=labels)


def test_groups_far_apart_are_found_and_finished_rows_are_not_done_again(tmp_path: Path) -> None:
    save(tmp_path, "blood_pbc_lite0", [80, 80, 80])
    asked = ["--data", str(tmp_path), "--json", str(tmp_path / "r.json"), "--sets", "blood_pbc_lite0"]
    asked += ["--seeds", "0", "--markdown", str(tmp_path / "r.md")]
    main([*asked, "--tasks", "scan,over"])
    book = tmp_path / "r.jsonl"
    first = book.read_text().splitlines()
    main([*asked, "--tasks", "scan,over,kmeans,grouping 5"])
    lines = book.read_text().splitlines()
    assert lines[: len(first)] == first
    of = {row["row"]: row for row in map(json.loads, lines)}
    assert set(of) >= {"SCAN", "SCAN, self-labelled", "SCAN, 2C", "k-means", "grouping, lambda 5"}
    assert of["k-means"]["acc"] == of["grouping, lambda 5"]["acc"] == of["SCAN"]["acc"] == 1
    assert of["SCAN, 2C"]["many_to_one"] == 1
    assert of["SCAN, 2C"]["acc"] < 0.9, "one to one, half of the clusters have no class"
    assert "| SCAN | 1.000 (1) |" in (tmp_path / "r.md").read_text()


def test_the_long_tail_falls_in_equal_ratios_and_takes_images_of_every_class(tmp_path: Path) -> None:
    save(tmp_path, CIFAR, [1000, 1000, 1000, 1000])
    rows, labels = long_tail(tmp_path)
    assert np.bincount(labels).tolist() == [1000, 464, 215, 100]
    assert (np.argmin(((rows[:, None] - MEANS) ** 2).sum(-1), axis=1) == labels).all()


def test_the_papers_setting_is_trained_once() -> None:
    assert not {"weight 5", "K 20"} & TASKS.keys()
    with pytest.raises(SystemExit):
        main(["--data", ".", "--json", "x.json", "--tasks", "magic"])
