"""Checkpoints: what is sealed, what is copied, where state goes, and which failures are told."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rayscan.engine.checkpoint import META, STATE, Checkpoints
from rayscan.errors import ArtifactError
from rayscan.storage import Place


def written(checkpoints: Checkpoints, step: int, value: float = 1.0) -> None:
    checkpoints.save(step, {"w": torch.full((3,), value), "n": torch.tensor([step])}, {"rows": [[step]]})
    checkpoints.wait()


def meta_of(place: Path) -> tuple[Path, dict[str, Any]]:
    (file,) = place.glob(f"*/{META}")
    return file, json.loads(file.read_bytes())


def seal(meta: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def test_the_seal_is_over_all_that_is_said_in_order_of_names(tmp_path: Path) -> None:
    written(Checkpoints(Place(str(tmp_path)), "f"), 7)
    file, meta = meta_of(tmp_path)
    told = {k: v for k, v in meta.items() if k != "seal"}
    data = (file.parent / STATE).read_bytes()
    assert file.parent.name.startswith("step-000000007-")
    assert told == {
        "schema": 3,
        "fingerprint": "f",
        "step": 7,
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "notes": {"rows": [[7]]},
    }
    assert meta["seal"] == seal(told)
    file.write_text(json.dumps(dict(reversed(list(meta.items())))))  # the same, in another order
    found = Checkpoints(Place(str(tmp_path)), "f").newest()
    assert found is not None
    assert (found.step, found.notes, found.name) == (7, {"rows": [[7]]}, file.parent.name)


@pytest.mark.parametrize(
    "changed", [{"schema": 2}, {"schema": 1}, {"fingerprint": "g"}, {"size": 1}, {"sha256": "0" * 64}]
)
def test_one_of_another_kind_is_passed_over_though_its_seal_is_right(
    changed: dict[str, Any], tmp_path: Path
) -> None:
    checkpoints = Checkpoints(Place(str(tmp_path)), "f")
    written(checkpoints, 7)
    file, meta = meta_of(tmp_path)
    told = {k: v for k, v in meta.items() if k != "seal"} | changed
    file.write_text(json.dumps({**told, "seal": seal(told)}))
    assert checkpoints.newest() is None
    assert checkpoints.load(file.parent.name) is None


def test_state_goes_to_the_device_that_is_asked_for(tmp_path: Path) -> None:
    checkpoints = Checkpoints(Place(str(tmp_path)), "f")
    written(checkpoints, 1)
    name = meta_of(tmp_path)[0].parent.name
    for found in (checkpoints.newest("meta"), checkpoints.load(name, "meta")):
        assert found is not None
        assert {tensor.device.type for tensor in found.tensors.values()} == {"meta"}


def test_what_changes_after_save_is_not_in_the_checkpoint(tmp_path: Path) -> None:
    checkpoints = Checkpoints(Place(str(tmp_path)), "f")
    weight = torch.nn.Parameter(torch.ones(1000))
    notes = {"rows": [1]}
    checkpoints.save(1, {"w": weight}, notes)
    with torch.no_grad():
        weight.add_(5.0)
    notes["rows"].append(2)
    checkpoints.close()
    found = checkpoints.newest()
    assert found is not None
    assert found.tensors["w"].eq(1).all()
    assert found.notes == {"rows": [1]}


class Stubborn(Place):
    """Where writing or deleting fails while told so."""

    writes: Exception | None = None
    deletes: Exception | None = None

    def write(self, name: str, data: bytes | memoryview) -> None:
        if self.writes is not None:
            raise self.writes
        super().write(name, data)

    def delete(self, name: str) -> None:
        if self.deletes is not None:
            raise self.deletes
        super().delete(name)


@pytest.mark.parametrize("kind", [OSError, ArtifactError])
def test_old_ones_that_cannot_be_removed_are_no_trouble(kind: type[Exception], tmp_path: Path) -> None:
    place = Stubborn(str(tmp_path))
    place.deletes = kind("cannot delete")
    checkpoints = Checkpoints(place, "f")
    for step in range(1, 5):
        written(checkpoints, step)
        assert checkpoints.trouble == ""
    assert len(list(tmp_path.iterdir())) == 4
    place.deletes = None
    written(checkpoints, 5)
    assert sorted(int(p.name.split("-")[1]) for p in tmp_path.iterdir()) == [4, 5]


@pytest.mark.parametrize("written_as", [OSError, ArtifactError])
@pytest.mark.parametrize("deleted_as", [OSError, ArtifactError])
def test_the_trouble_that_is_told_is_that_of_the_write(
    written_as: type[Exception], deleted_as: type[Exception], tmp_path: Path
) -> None:
    """What is half written is removed; that this fails too is not what the reader must know."""
    place = Stubborn(str(tmp_path))
    checkpoints = Checkpoints(place, "f")
    assert checkpoints.trouble == ""
    place.writes, place.deletes = written_as("no room\nat all"), deleted_as("cannot delete")
    written(checkpoints, 1)
    assert checkpoints.trouble == "no room"
    place.writes = None
    written(checkpoints, 2)
    assert checkpoints.trouble == ""


def test_patience_counts_from_the_first_of_failures_in_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One a second, ten seconds of patience: they begin with the first, or the first after a success."""
    now = [100.0]
    monkeypatch.setattr("rayscan.engine.checkpoint.time", SimpleNamespace(monotonic=lambda: now[0]))
    for healed_at, ends_at in ((None, 110.0), (106.0, 117.0)):
        place = Stubborn(str(tmp_path / str(ends_at)))
        checkpoints = Checkpoints(place, "f", patience_seconds=10.0)
        ended = None
        for second in range(30):
            now[0] = 100.0 + second
            place.writes = None if now[0] == healed_at else OSError("no room")
            try:
                written(checkpoints, second)
            except ArtifactError as error:
                ended = now[0]
                assert "within 10 s" in str(error)
                assert "no room" in str(error)
                break
        assert ended == ends_at


def test_busy_while_a_write_is_under_way(tmp_path: Path) -> None:
    gate = threading.Event()

    class Slow(Place):
        def write(self, name: str, data: bytes | memoryview) -> None:
            gate.wait(20)
            super().write(name, data)

    checkpoints = Checkpoints(Slow(str(tmp_path)), "f")
    assert not checkpoints.is_busy
    checkpoints.save(1, {"w": torch.ones(1)}, {})
    assert checkpoints.is_busy
    gate.set()
    checkpoints.wait()
    assert not checkpoints.is_busy
    with pytest.raises(RuntimeError):  # nothing more can be written once it is closed
        checkpoints.close()
        checkpoints.save(2, {"w": torch.ones(1)}, {})
