"""Curves reach the trackers that are installed: each point once, at its step."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from rayscan.console.trackers import FOLDER, Trackers
from rayscan.storage import Place

TABLE = pa.table(
    {
        "epoch": [0.5, 1.0, 1.0],
        "step": [10, 20, 20],
        "name": ["loss", "loss", "effective_rank"],
        "value": [3.0, 2.0, 17.5],
    }
)


def points(folder: Path) -> list[tuple[str, int, float]]:
    """Scalars of an event file, read with the format's own length prefixes and messages."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for file in sorted(folder.glob("events*")):
        data, at = file.read_bytes(), 0
        while at < len(data):  # uint64 length, uint32 crc, message, uint32 crc
            length = int.from_bytes(data[at : at + 8], "little")
            event = Event.FromString(data[at + 12 : at + 12 + length])
            at += 16 + length
            found += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
    return found


def test_points_of_a_training_are_written_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    with Trackers(Place(str(tmp_path)), "digits") as trackers:
        trackers.log("pretext", 10, {"loss": 3.0, "note": "no number"})
        trackers.log("pretext", 10, {"loss": 3.0})
        trackers.complete("pretext", TABLE)
    assert sorted(points(tmp_path / FOLDER / "pretext")) == [
        ("effective_rank", 20, 17.5),
        ("loss", 10, 3.0),
        ("loss", 20, 2.0),
    ]


def test_nothing_is_opened_before_the_first_point(tmp_path: Path) -> None:
    with Trackers(Place(str(tmp_path)), "digits"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_mlflow_keeps_them_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with Trackers(Place(str(tmp_path / "run")), "digits") as trackers:
        trackers.complete("pretext", TABLE)
    client = MlflowClient()
    experiment = client.get_experiment_by_name("rayscan")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.tags["rayscan.out"] == str(tmp_path / "run")
    history = client.get_metric_history(run.info.run_id, "pretext/loss")
    assert [(point.step, point.value) for point in history] == [(10, 3.0), (20, 2.0)]
