"""Killed at every write call, flipped at every byte, out of room: only what is whole is loaded."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rayscan.engine import checkpoint as module
from rayscan.engine.checkpoint import Checkpoints
from rayscan.errors import ArtifactError
from rayscan.storage import Place

BITES = 26
"""Pieces in which a file reaches the disk here: each is a point to die at."""


def tensors(step: int) -> dict[str, torch.Tensor]:
    return {"w": torch.full((64,), float(step)), "n": torch.tensor([step])}


def save(checkpoints: Checkpoints, step: int) -> None:
    checkpoints.save(step, tensors(step), {"rows": [[0.5, step, "loss", 1.25]], "step": step})
    checkpoints.wait()


def loaded_step(place: Path) -> int | None:
    """The newest step, after checking that all of it belongs to that step."""
    found = Checkpoints(Place(str(place)), "f").newest()
    if found is None:
        return None
    assert found.notes == {"rows": [[0.5, found.step, "loss", 1.25]], "step": found.step}
    assert found.tensors.keys() == {"w", "n"}
    assert all(torch.equal(found.tensors[k], v) for k, v in tensors(found.step).items())
    return found.step


class Bites:
    """Counts what a writer does to the disk, piece by piece, and dies at a given one."""

    def __init__(self, die_at: int) -> None:
        self.count, self.die_at = 0, die_at

    def bite(self) -> None:
        self.count += 1
        if self.count == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **named: Any) -> Any:
            self.bite()
            done = real(*args, **named)
            self.bite()
            return done

        return called

    def opened(self, path: Path, mode: str = "r", *more: Any, **named: Any) -> Any:
        file = REAL_OPEN(path, mode, *more, **named)
        return Slow(file, self) if mode == "wb" else file


class Slow:
    """A file whose bytes arrive in pieces."""

    def __init__(self, file: Any, bites: Bites) -> None:
        self.file, self.bites = file, bites

    def __enter__(self) -> Slow:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, data: bytes) -> None:
        step = -(-len(data) // BITES)
        for first in range(0, len(data), step):
            self.file.write(data[first : first + step])
            self.file.flush()
            self.bites.bite()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


REAL_OPEN = Path.open


def child(place: Path, die_at: int, report: int) -> None:
    """Save steps 2, 3 and 4, dying at one of the points; says after each that it is on storage."""
    bites = Bites(die_at)
    Path.open = lambda path, *more, **named: bites.opened(path, *more, **named)  # type: ignore
    os.fsync = bites.around(lambda _: None)  # matters to a power cut, not to a death
    for name in ("replace", "mkdir"):
        setattr(Path, name, bites.around(getattr(Path, name)))
    Place.delete = bites.around(Place.delete)  # type: ignore[method-assign]
    checkpoints = Checkpoints(Place(str(place)), "f")
    for step in (2, 3, 4):
        save(checkpoints, step)
        os.write(report, bytes([step]))
    os.write(report, b"\xff" + bites.count.to_bytes(2, "big"))


def fork(place: Path, die_at: int) -> tuple[int, int | None]:
    """Newest step the child was told is saved, and its number of points if it lived."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            child(place, die_at, writing)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    said = b""
    while piece := os.read(reading, 64):
        said += piece
    os.close(reading)
    _, status = os.waitpid(pid, 0)
    acknowledged, mark, count = said.partition(b"\xff")
    assert os.WIFSIGNALED(status) or mark, "the child failed"
    return max(acknowledged, default=1), int.from_bytes(count, "big") if mark else None


def test_killed_at_every_write_call(tmp_path: Path) -> None:
    """Never torn, never older than what was acknowledged, and the next writer goes on in the same place."""
    start = tmp_path / "start"
    save(Checkpoints(Place(str(start)), "f"), 1)
    points, die_at, left_torn = None, 0, 0
    while points is None:
        die_at += 1
        place = tmp_path / str(die_at)
        copy(start, place)
        acknowledged, points = fork(place, die_at)
        step = loaded_step(place)
        assert step is not None
        assert acknowledged <= step <= acknowledged + 1
        left_torn += len(list(place.iterdir())) > 2
        if die_at % 20 == 0:
            save(Checkpoints(Place(str(place)), "f"), 5)
            assert loaded_step(place) == 5
            assert len(list(place.iterdir())) == module.KEPT
    assert die_at - 1 == points >= 200
    assert left_torn > 20


def copy(source: Path, target: Path) -> None:
    for file in source.rglob("*"):
        if file.is_file():
            to = target / file.relative_to(source)
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(file.read_bytes())


def test_every_flipped_byte_of_every_file_is_seen(tmp_path: Path) -> None:
    """One bit of each byte: another checkpoint is taken, or the change was none (JSON has free spaces)."""
    checkpoints = Checkpoints(Place(str(tmp_path)), "f")
    save(checkpoints, 1)
    save(checkpoints, 2)
    newest = sorted(tmp_path.iterdir())[-1]
    seen = 0
    for file in sorted(newest.iterdir()):
        good = file.read_bytes()
        for at in range(len(good)):
            file.write_bytes(good[:at] + bytes([good[at] ^ (1 << at % 8)]) + good[at + 1 :])
            step = loaded_step(tmp_path)
            seen += step == 1
            assert step == 1 or (file.name == "meta.json" and step == 2)
        file.write_bytes(good)
    assert loaded_step(tmp_path) == 2
    assert seen > 0.95 * sum(file.stat().st_size for file in newest.iterdir())


def test_every_shortened_file_is_seen(tmp_path: Path) -> None:
    """As a half-uploaded or torn file is."""
    checkpoints = Checkpoints(Place(str(tmp_path)), "f")
    save(checkpoints, 1)
    save(checkpoints, 2)
    newest = sorted(tmp_path.iterdir())[-1]
    for file in sorted(newest.iterdir()):
        good = file.read_bytes()
        for size in range(len(good)):
            file.write_bytes(good[:size])
            assert loaded_step(tmp_path) == 1
        file.write_bytes(good)


def test_whole_old_ones_outlive_torn_newer_ones(tmp_path: Path) -> None:
    checkpoints = Checkpoints(Place(str(tmp_path)), "f")
    save(checkpoints, 1)
    for step in (50, 60, 70):  # three deaths in mid-write
        (tmp_path / f"step-{step:09d}-dead").mkdir()
        (tmp_path / f"step-{step:09d}-dead" / "state.safetensors").write_bytes(b"half")
    save(checkpoints, 2)
    assert [p.name.split("-")[1] for p in sorted(tmp_path.iterdir())] == ["000000001", "000000002"]


class FullPlace(Place):
    """Out of room while `is_full`."""

    is_full = False

    def write(self, name: str, data: bytes | memoryview) -> None:
        if self.is_full and name.endswith("meta.json"):  # the state has still fitted
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(name, data)


def test_a_full_disk_keeps_the_old_one_and_the_training(tmp_path: Path) -> None:
    place = FullPlace(str(tmp_path))
    checkpoints = Checkpoints(place, "f", patience_seconds=3600)
    save(checkpoints, 1)
    place.is_full = True
    for step in (2, 3):
        save(checkpoints, step)
        assert "No space left" in checkpoints.trouble
        assert loaded_step(tmp_path) == 1
        assert len(list(tmp_path.iterdir())) == 1, "a full disk is not filled further"
    place.is_full = False
    save(checkpoints, 4)
    assert checkpoints.trouble == ""
    assert loaded_step(tmp_path) == 4


def test_patience_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = FullPlace(str(tmp_path))
    clock = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    checkpoints = Checkpoints(place, "f", patience_seconds=60)
    place.is_full = True
    save(checkpoints, 1)
    clock[0] += 59
    save(checkpoints, 2)
    clock[0] += 2
    with pytest.raises(ArtifactError, match="no checkpoint could be written"):
        save(checkpoints, 3)


def test_the_writer_is_off_the_step_path(tmp_path: Path) -> None:
    """`save` returns while the write is under way, and what is written is the state at the call."""
    gate, began = threading.Event(), threading.Event()

    class Waiting(Place):
        def write(self, name: str, data: bytes | memoryview) -> None:
            began.set()
            assert gate.wait(60)
            super().write(name, data)

    checkpoints = Checkpoints(Waiting(str(tmp_path)), "f")
    state = tensors(7)
    checkpoints.save(7, state, {"rows": [[0.5, 7, "loss", 1.25]], "step": 7})
    assert began.wait(60)
    assert checkpoints.is_busy
    state["w"].zero_()  # the training goes on
    assert loaded_step(tmp_path) is None
    gate.set()
    checkpoints.close()
    assert not checkpoints.is_busy
    assert loaded_step(tmp_path) == 7
