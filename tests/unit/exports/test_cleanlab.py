"""Arrays for cleanlab, used by its Datalab."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.sparse import load_npz

from rayscan.errors import ArtifactError
from rayscan.exports import export
from rayscan.exports.probabilities import probabilities
from rayscan.run import Run
from rayscan.storage import Place
from tests.unit.exports.pictured import NAMES, PicturedRun, pictured


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> PicturedRun:
    return pictured(tmp_path_factory.mktemp("run"), num_images=300)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_arrays_are_those_of_the_model_in_one_order(made: PicturedRun, tmp_path: Path) -> None:
    export(made.opened, "cleanlab", str(tmp_path / "out"))
    rows = pq.read_table(tmp_path / "out/rows.parquet")
    assert rows["gid"].to_pylist() == list(range(300))
    features, probs, labels = (
        np.load(tmp_path / f"out/{name}.npy") for name in ("features", "pred_probs", "labels")
    )
    assert np.array_equal(features, made.rows)
    weight = made.done["selflabel"]
    from safetensors.numpy import load

    expected = softmax(
        made.rows.astype(np.float64) @ load(weight.read("model.safetensors"))["heads.weight"][0].T
    )
    classes = json.loads((tmp_path / "out/classes.json").read_text("utf-8"))
    used = [c["cluster"] for c in classes]
    assert [c["name"] for c in classes] == [NAMES[n] for n in used]
    kept = expected[:, used]
    assert np.allclose(probs, kept / kept.sum(axis=1, keepdims=True), atol=1e-5)
    assert np.array_equal(np.array(used)[labels], rows["cluster"].to_numpy())
    graph = load_npz(tmp_path / "out/knn_graph.npz")
    for row in range(made.num_train):
        found = graph.indices[graph.indptr[row] : graph.indptr[row + 1]]
        assert np.array_equal(found, made.neighbors[row, :15])
        told = graph.data[graph.indptr[row] : graph.indptr[row + 1]]
        assert np.allclose(told, 1 - made.rows[found] @ made.rows[row], atol=1e-5)


def test_datalab_finds_issues_in_them(
    made: PicturedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleanlab = pytest.importorskip("cleanlab")
    # one process: a pool that is forked from a process with threads may never end
    monkeypatch.setattr("psutil.cpu_count", lambda logical=True: 1)
    export(made.opened, "cleanlab", str(tmp_path / "out"))
    probs, labels = (np.load(tmp_path / f"out/{name}.npy") for name in ("pred_probs", "labels"))
    graph = load_npz(tmp_path / "out/knn_graph.npz")
    given = labels.copy()
    sure = int(probs.max(axis=1).argmax())
    given[sure] = (labels[sure] + 1) % probs.shape[1]
    lab = cleanlab.Datalab({"y": given}, label_name="y", verbosity=0)
    lab.find_issues(pred_probs=probs, knn_graph=graph)
    assert {"label", "outlier", "near_duplicate"} <= set(lab.get_issue_summary()["issue_type"])
    assert bool(lab.get_issues("label")["is_label_issue"][sure])
    from cleanlab.filter import find_label_issues

    assert find_label_issues(given, probs)[sure]


def test_rows_that_were_edited_have_the_probabilities_of_the_table(made: PicturedRun) -> None:
    """Moved to another cluster by hand: what stands in the assignments counts, not the model."""
    from rayscan.exports.probabilities import model_of
    from rayscan.training.space_rows import rows_of
    from rayscan.vectors.parts import EmbeddingRows

    run = made.opened
    table = run.assignments.slice(0, 4)
    first = table["cluster"][0].as_py()
    other = (first + 1) % 10
    clusters, confidence = table["cluster"].to_pylist(), table["confidence"].to_pylist()
    clusters[0], confidence[0] = other, 1.0
    lists, values = table["top5"].to_pylist(), table["top5_probs"].to_pylist()
    lists[0], values[0] = [other], [1.0]
    edited = pa.table(
        {
            "gid": table["gid"],
            "cluster": pa.array(clusters, pa.int32()),
            "confidence": pa.array(confidence, pa.float32()),
            "top5": pa.array(lists, pa.list_(pa.int32())),
            "top5_probs": pa.array(values, pa.list_(pa.float32())),
        }
    )
    made_of = model_of(run)
    rows = EmbeddingRows(run.artifact("embed"))
    found = probabilities(made_of, edited, rows.take(rows_of(rows, edited["gid"].to_numpy())), np.arange(10))
    assert np.array_equal(found[0], np.eye(10)[other])
    assert np.array_equal(found.argmax(axis=1), clusters)
    assert np.allclose(found.sum(axis=1), 1, atol=1e-6)


def test_a_prediction_without_a_model_spreads_what_the_five_best_leave(tmp_path: Path) -> None:
    made = pictured(tmp_path / "own")
    record = json.loads(made.out.read("run.json"))
    del record["stages"]["selflabel"]
    made.out.write("run.json", json.dumps(record).encode())
    export(made.opened, "cleanlab", str(tmp_path / "out"))
    probs = np.load(tmp_path / "out/pred_probs.npy")
    assigned = made.opened.assignments
    classes = [c["cluster"] for c in json.loads((tmp_path / "out/classes.json").read_text("utf-8"))]
    for row, lists, values in zip(
        probs, assigned["top5"].to_pylist(), assigned["top5_probs"].to_pylist(), strict=True
    ):
        known = {classes.index(n): p for n, p in zip(lists, values, strict=True) if n in classes}
        others = [p for n, p in enumerate(row) if n not in known]
        assert len(set(others)) <= 1
        for n, p in known.items():
            assert row[n] == pytest.approx(p / (sum(known.values()) + sum(others)), abs=1e-4)
    assert np.allclose(probs.sum(axis=1), 1, atol=1e-5)


def test_a_store_gets_the_same_files_and_the_note_last(place: Place, made: PicturedRun) -> None:
    export(made.opened, "cleanlab", place.child("out").uri)
    names = place.child("out").names()
    assert {"rayscan.json", "features.npy", "knn_graph.npz", "rows.parquet"} <= set(names)
    assert np.array_equal(np.load(io.BytesIO(place.read("out/features.npy"))), made.rows)
    export(made.opened, "cleanlab", place.child("out").uri, force=True)
    assert place.child("out").names() == names


def test_an_interrupted_one_leaves_no_folder(tmp_path: Path) -> None:
    made = pictured(tmp_path / "own", num_images=60)
    mined = made.done["mine"]
    (Path(mined.place.uri) / mined.entry("neighbors.parquet").path).write_bytes(b"torn")
    with pytest.raises(ArtifactError, match="not what was written"):
        export(Run(made.out.uri), "cleanlab", str(tmp_path / "out"))
    assert {path.name for path in tmp_path.iterdir()} == {"own"}
