"""The driver dies in mid-stage; the same command again ends with the same assignments."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.ray.tiny import STAGES, command, run

KILLED = [stage for stage in STAGES if stage != "labels"]  # which is over at once


def is_inside(out: Path, stage: str) -> bool:
    """Whether a stage has begun to write and has not finished."""
    trained = list(out.glob(f".work/{stage}-*/**/meta.json"))
    written = [d for d in out.glob(f"{stage}-*") if not (d / "manifest.json").exists()]
    return bool(trained) if stage in ("pretext", "selflabel") else bool(written)


def begin(out: Path, stage: str, log: Path) -> subprocess.Popen[bytes]:
    """Start the run in a process group of its own; it is inside the stage then, or has ended."""
    with log.open("ab") as said:
        # a shell that starts the tests in the background has them ignore Ctrl-C, and so would their children
        driver = subprocess.Popen(
            ["env", "--default-signal=INT", *command(out)],
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    deadline = time.monotonic() + 200
    while driver.poll() is None and not is_inside(out, stage):
        assert time.monotonic() < deadline, f"{stage} never began\n{log.read_text()[-3000:]}"
        time.sleep(0.001)
    return driver


def kill_inside(out: Path, stage: str, log: Path) -> bool:
    """Start the run and SIGKILL its driver inside a stage; whether it was still running then."""
    driver = begin(out, stage, log)
    if driver.poll() is not None:
        return False
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    return True


def copy_before(stage: str, finished: Path, out: Path) -> None:
    """A run as it was before it came to a stage."""
    out.mkdir()
    for earlier in STAGES[: STAGES.index(stage)]:
        for made in finished.glob(f"{earlier}-*"):
            shutil.copytree(made, out / made.name)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("stages", "at_least"),
    [(["selflabel"], 1), pytest.param(KILLED, 6, marks=pytest.mark.soak)],
    ids=["one stage", "every stage"],
)
def test_driver_killed(stages: list[str], at_least: int, finished: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "run", tmp_path / "log"
    copy_before(stages[0], finished, out)
    killed = [stage for stage in stages if kill_inside(out, stage, log)]
    assert {"pretext", "scan", "selflabel"} & set(stages) <= set(killed)
    assert len(killed) >= at_least, killed  # a stage of milliseconds may end before it is seen
    run(command(out))
    assert "joined Ray" not in log.read_text(), "a resumed training starts a Ray of its own, quietly"
    ours, theirs = out / "assignments.parquet", finished / "assignments.parquet"
    assert ours.read_bytes() == theirs.read_bytes()


def test_ctrl_c_in_a_training_says_how_to_go_on(tmp_path: Path) -> None:
    """A terminal sends it to all processes of the run, Ray's servers too."""
    driver = begin(tmp_path / "run", "pretext", tmp_path / "log")
    os.killpg(driver.pid, signal.SIGINT)
    status = driver.wait(120)
    said = (tmp_path / "log").read_text()
    assert status == 130, said[-3000:]
    assert "stopped; resume with:\n  rayscan demo --out" in said
