"""Features of every kind, from the command line to assignments: a bundled network, files, both joined."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import rayscan
from rayscan.run import Run
from rayscan.vectors.parts import EmbeddingRows
from tests.ray.tiny import run

pytestmark = pytest.mark.usefixtures("joined")

SMALL = ["--mine.num-neighbors", "20", "--evaluate.kmeans-n-init", "2", "--report.images-per-cluster", "4"]
COLORS = ((200, 30, 30), (30, 160, 40), (40, 60, 210))


def cluster(out: Path, *arguments: str | Path) -> Run:
    command = [sys.executable, "-m", "rayscan", "run", "custom", "--out", str(out), *map(str, arguments)]
    run([*command, "--num-clusters", "3", *SMALL])
    return Run(str(out))


def photos(folder: Path, count: int, seed: int) -> list[int]:
    """Noisy pictures of three colors; the kind of each, in the order of names."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    kinds = [i % 3 for i in range(count)]
    for i, kind in enumerate(kinds):
        pixels = rng.normal(COLORS[kind], 25, (40, 52, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:03d}.png")
    return kinds


def agrees(clusters: Sequence[int], kinds: Sequence[int]) -> float:
    """Share of images that are in the cluster most of their kind are in, each cluster used once."""
    table = np.zeros((3, 3), int)
    np.add.at(table, (np.asarray(clusters), np.asarray(kinds)), 1)
    assert sorted(table.argmax(axis=1).tolist()) == [0, 1, 2]
    return float(table.max(axis=1).sum() / table.sum())


def test_a_bundled_network_a_file_of_its_features_and_new_pictures(tmp_path: Path) -> None:
    kinds = photos(tmp_path / "photos", 90, 0)
    engine = ["--embed.engine", "torch", "--embed.precision", "fp32"]
    first = cluster(tmp_path / "a", "--data", tmp_path / "photos", "--embed.size-px", "64", *engine)
    assert agrees(first.assignments["cluster"].to_pylist(), kinds) >= 0.95
    told = first.artifact("pretext").facts
    assert (told["name"], told["trained_with"], told["licence"]) == (
        "lite0",
        "labels of ImageNet",
        "apache-2.0",
    )
    page = (tmp_path / "a/report/index.html").read_text()
    assert "trained with labels of ImageNet" in page
    assert "Without labels: S 0." in page or "Without labels: S 1." in page

    # features that were made are features that can be brought: the same clusters, to the bit
    rows = EmbeddingRows(first.artifact("embed"))
    np.save(tmp_path / "x.npy", rows.read(0, rows.train_rows))
    second = cluster(tmp_path / "b", "--data", tmp_path / "photos", "--features", f"file:{tmp_path}/x.npy")
    for column in ("cluster", "confidence", "top5_probs"):
        assert first.assignments[column].equals(second.assignments[column])

    new = photos(tmp_path / "new", 30, 1)
    predict = [sys.executable, "-m", "rayscan", "predict", str(tmp_path / "a")]
    run([*predict, "--data", str(tmp_path / "new"), "--out", str(tmp_path / "p")])
    predicted = Run(str(tmp_path / "p"))
    assert agrees(predicted.assignments["cluster"].to_pylist(), new) >= 0.95
    # by the engine and precision of the run, whatever else is installed
    (net,) = predicted.artifact("embed").facts["nets"]
    assert (net["engine"], net["precision"]) == ("eager", "fp32")


def test_embeddings_without_pictures_and_two_spaces_joined(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kinds = np.arange(120) % 3
    blobs = {name: rng.normal(size=(3, 16)) * 3 for name in ("x", "y")}
    for name, means in blobs.items():
        rows = (means[kinds] + rng.normal(size=(120, 16))).astype(np.float32)
        table = {"id": [f"image {i}" for i in range(120)], "embedding": list(rows)}
        if name == "y":  # one image has no vector there, another none that can be used
            rows[7] = np.nan
            table = {"id": table["id"][:-1], "embedding": list(rows[:-1])}
        pq.write_table(pa.table(table), tmp_path / f"{name}.parquet")
    words = [f"file:{tmp_path}/x.parquet", f"file:{tmp_path}/y.parquet"]
    joined = cluster(tmp_path / "j", "--features", *words, "--images.max-bad-fraction", "0.1")
    assigned = joined.assignments
    assert assigned["id"].to_pylist() == [f"image {i}" for i in range(119) if i != 7]
    kept = np.array([i for i in range(119) if i != 7])
    assert agrees(assigned["cluster"].to_pylist(), kinds[kept].tolist()) >= 0.95
    assert joined.artifact("embed").facts["spaces"] == ["embed@file", "embed@file-2"]
    left_out = joined.artifact("embed@file-2").read_table("quarantine.parquet").to_pylist()
    assert sorted(row["id"] for row in left_out) == ["image 119", "image 7"]

    # new rows go through the components and the heads of the run: the same rows, the same clusters
    predict = [sys.executable, "-m", "rayscan", "predict", str(tmp_path / "j"), "--features", *words]
    run([*predict, "--out", str(tmp_path / "p")])
    again = rayscan.open(str(tmp_path / "p")).assignments
    assert again["cluster"].equals(assigned["cluster"])
    with pytest.raises(AssertionError, match="2 of the form file:PATH"):
        run([*predict[:-1], "--out", str(tmp_path / "q")])
