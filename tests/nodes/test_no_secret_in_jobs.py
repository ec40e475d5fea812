"""Secrets in the environment of every node and of who submits: Ray's records of a job hold none of them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nodes.head import ROOT, Head, started
from tests.ray.conftest import CANARIES
from tests.ray.test_no_secret_is_written import holders

SENT = "canary-in-an-address-81d2"


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """Credentials stand in the environment of the node, as the howto says."""
    patch = pytest.MonkeyPatch()
    for name, value in CANARIES.items():
        patch.setenv(name, value)
    try:
        with started(num_cpus=2) as running:
            yield running
    finally:
        patch.undo()


def submitted(head: Head) -> list[dict[str, object]]:
    jobs: list[dict[str, object]] = json.loads(head.read("/api/jobs/"))
    return [job for job in jobs if job["type"] == "SUBMISSION"]


def test_what_ray_keeps_of_a_job_holds_no_secret(head: Head, tmp_path: Path) -> None:
    script = str(ROOT / "jobs" / "full_imagenet.sh")
    data = ["--data", str(tmp_path / "missing-*.tar"), "--out", str(tmp_path / "run")]
    assert set(CANARIES.items()) <= set(head.environment.items())
    done = head.run(script, *data, timeout=120)
    assert done.returncode == 1
    assert "missing-*.tar" in done.stdout, "the job never ran"
    (job,) = (job for job in submitted(head) if "full_imagenet" in str(job["entrypoint"]))
    assert str(job["entrypoint"]).startswith("python -m rayscan.full_imagenet")
    assert "working_dir" in str(job["runtime_env"])
    number = job["submission_id"]
    records = {
        "command": done.stdout + done.stderr,
        "jobs": json.dumps(job),
        "job": head.read(f"/api/jobs/{number}").decode(),
        "log": head.read(f"/api/jobs/{number}/logs").decode(),
        "drivers": head.read("/api/v0/jobs?detail=true").decode(),
        "actors": head.read("/api/v0/actors?detail=true").decode(),
        "workers": head.read("/api/v0/workers?detail=true").decode(),
    }
    assert str(number) in records["drivers"]
    assert "JobSupervisor" in records["actors"]
    found = {
        (name, key) for name, text in records.items() for key, value in CANARIES.items() if value in text
    }
    assert found == set()


def test_nor_does_a_file_of_the_head(head: Head) -> None:
    logs = [path for path in head.log.parent.rglob("*") if path.is_file() and "/logs/" in str(path)]
    assert any(path.name.startswith("job-driver-raysubmit") for path in logs)
    assert any(path.name.startswith("runtime_env") for path in logs)
    assert holders([*logs, head.log], CANARIES.values()) == []


def test_the_search_is_not_blind(head: Head) -> None:
    """What must not be done: Ray shows the environment that is handed to a job."""
    handed = json.dumps({"env_vars": {"HF_TOKEN": "canary-handed-3c7e"}})
    done = head.job("submit", "--no-wait", f"--runtime-env-json={handed}", "--", "true", timeout=60)
    assert done.returncode == 0, done.stderr
    assert any("canary-handed-3c7e" in json.dumps(job) for job in submitted(head))


@pytest.mark.parametrize("script", ["full_imagenet.sh", "smoke.sh", "search.sh"])
def test_an_address_with_a_secret_is_refused_before_it_is_sent(head: Head, script: str) -> None:
    """Ray would keep the command of the job, and show it to all who may look."""
    before = len(submitted(head))
    address = f"s3://bucket/x?secret_key={SENT}"
    done = head.run(str(ROOT / "jobs" / script), f"--data=a.tar,{address}", timeout=60)
    assert done.returncode == 2
    assert "an address carries credentials" in done.stderr
    assert SENT not in done.stdout + done.stderr
    assert len(submitted(head)) == before
    assert not re.search(SENT, head.read("/api/jobs/").decode())
    assert SENT not in os.environ.values()
