"""The scripts of jobs/ against a local head that demands a token: submit, follow, fail, stop."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import rayscan
from tests.nodes.head import ROOT, Head, started

JOBS = sorted((ROOT / "jobs").glob("*.sh"))


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with started(num_cpus=2) as running:
        yield running


def job(name: str) -> str:
    return str(ROOT / "jobs" / name)


def test_jobs_fit_on_a_screen() -> None:
    assert {path.name for path in JOBS} >= {"full_imagenet.sh", "search.sh", "smoke.sh"}
    assert all(len(path.read_text().splitlines()) <= 20 for path in JOBS)


def test_without_the_token_nothing_is_taken(head: Head) -> None:
    stranger = {k: v for k, v in head.environment.items() if not k.startswith("RAY_AUTH")}
    command = [job("smoke.sh"), "--out", "/nowhere"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**stranger, "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "submitted successfully" not in done.stdout
    assert "401" in done.stderr + done.stdout or "nauth" in done.stderr + done.stdout


@pytest.mark.soak
def test_a_job_with_the_token_is_followed_to_its_report(head: Head, tmp_path: Path) -> None:
    done = head.run(job("smoke.sh"), "--out", str(tmp_path / "run"), timeout=280)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "joined Ray: 1 node, 2 CPUs" in done.stdout
    assert "demands no token" not in done.stdout
    assert "report: " in done.stdout
    assert re.search(r"  pretext: .* images/s, 2 workers", done.stdout)
    assert rayscan.open(str(tmp_path / "run")).assignments.num_rows == 1797
    status = head.run("python", "-m", "rayscan", "status", str(tmp_path / "run"), timeout=60)
    assert status.returncode == 0, status.stderr
    assert "everything is done" in status.stdout


@pytest.mark.parametrize(
    ("script", "first", "resumed"),
    [
        ("full_imagenet.sh", [], "python -m rayscan.full_imagenet --fleet.address auto --data"),
        (
            "search.sh",
            ["digits", "--trials", "2", "--space", "scan.entropy_weight=1:9"],
            "rayscan search digits",
        ),
    ],
)
def test_a_job_that_fails_says_why_in_its_last_lines(
    head: Head, tmp_path: Path, script: str, first: list[str], resumed: str
) -> None:
    """Ray's client turns every failure into exit code 1; the reason must be where people look."""
    data = ["--data", str(tmp_path / "missing-*.tar"), "--out", str(tmp_path / "run")]
    done = head.run(job(script), *first, *data, timeout=120)
    assert done.returncode == 1
    end = "\n".join(done.stdout.splitlines()[-20:])
    assert "missing-*.tar" in end
    assert resumed in end, "the command that resumes"
    assert "Traceback" not in end


def test_the_doctor_looks_at_every_node(head: Head, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rayscan", "doctor", "--address", head.address, "--out", str(tmp_path)]
    done = head.run(*command, timeout=120)
    found = [line for line in done.stdout.splitlines() if line.startswith("wrong: ")]
    # what this machine lacks is no fault of the doctor: it must be of these kinds, and then the doctor fails
    assert all(re.search(r"are free|/dev/shm|as rayscan requires", line) for line in found), found
    assert done.returncode == (1 if found else 0), done.stdout + done.stderr
    assert "2 CPUs, 0 GPUs for Ray" in done.stdout
    done = head.run(*command[:-1], "/proc/nowhere", timeout=120)
    assert done.returncode == 1
    assert "cannot use the storage: /proc/nowhere" in done.stdout


def test_a_job_can_be_stopped_and_its_out_is_free_again(head: Head, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [job("smoke.sh"), "--out", str(out), "--pretext.epochs", "5000"]
    log = tmp_path / "log"
    with log.open("wb") as said:
        follower = subprocess.Popen(command, cwd=ROOT, env=head.environment, stdout=said, stderr=said)
    try:
        until(lambda: list(out.glob(".work/pretext-*/**/meta.json")), log)
        named = re.search(r"Job '(\w+)' submitted", log.read_text())
        assert named is not None
        head.job("stop", "--no-wait", named[1], timeout=60)
        follower.wait(timeout=60)
    finally:
        follower.kill()
    assert "STOPPED" in head.job("status", named[1], timeout=60).stdout.upper()
    until(lambda: is_free(out), log)


def is_free(out: Path) -> bool:
    """Whether nobody holds the lock of a run."""
    import fcntl

    with (out / ".lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def until(is_so, log: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.2)
