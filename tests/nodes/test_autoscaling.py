"""A job on a cluster that has no worker when it comes: nodes appear, work, and leave.

Real raylets on this machine, started and ended by Ray's autoscaler (v2) through its fake provider. The head
offers no CPU, so whatever computes does so on nodes that were made for it.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

import rayscan
from tests.nodes.head import HEAD_ID, ROOT, started
from tests.nodes.test_full_imagenet_job import PHOTOS, TINY

CPU_NODES = {"cpu": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 2}}
GPU_NODES = {"gpu": {"resources": {"CPU": 1, "GPU": 1}, "node_config": {}, "max_workers": 1}}
LEAVE_SECONDS = 90.0
ASKED = """
import sys
from rayscan.config import FleetConfig
from rayscan.fleet.autoscaler import is_feasible
from rayscan.fleet.connect import Fleet
from rayscan.storage import Place

with Fleet(FleetConfig(address="auto"), Place(sys.argv[1]), print) as fleet:
    assert fleet.cluster.grows
    assert fleet.gpus_per_worker == 1.0, "the autoscaler has GPUs, though no node has one yet"
    assert is_feasible({"TPU": 1.0}) is False
    assert is_feasible({"CPU": 1.0, "GPU": 1.0}) is True
"""


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_nodes_come_for_a_job_and_leave_after_it(tmp_path: Path) -> None:
    if not PHOTOS.is_dir():
        pytest.skip(f"no ImageNet photos at {PHOTOS.relative_to(ROOT.parent)}")
    out, log = tmp_path / "run", tmp_path / "log"
    data = ["--data", f"{PHOTOS}/imagenet-sample-{{000000..000002}}.tar", "--out", str(out)]
    evals = ["--eval-data", f"{PHOTOS}/imagenet-sample-{{000003..000004}}.tar"]
    with started(num_cpus=0, node_types=CPU_NODES, idle_minutes=0.25) as head:
        assert head.nodes() == {HEAD_ID}
        seen: set[str] = set()
        command = [str(ROOT / "jobs" / "full_imagenet.sh"), *TINY, *data, *evals]
        with log.open("wb") as said:
            follower = subprocess.Popen(command, cwd=ROOT, env=head.environment, stdout=said, stderr=said)
        while follower.poll() is None:
            seen |= head.nodes()
            time.sleep(1)
        said = log.read_text()
        assert follower.returncode == 0, said[-6000:]
        actors = head.ask("/api/v0/actors?limit=1000&detail=1")["result"]["result"]
        places = {kind: {a["node_id"] for a in actors if a["class_name"] == kind} for kind in WORKERS}
        tasks = head.ask("/api/v0/tasks?limit=5000&detail=1")["result"]["result"]
        places |= {name: {t["node_id"] for t in tasks if t["name"] == name} for name in PARTS}
        deadline = time.monotonic() + LEAVE_SECONDS
        while head.nodes() != {HEAD_ID}:
            assert time.monotonic() < deadline, f"nodes stay: {head.nodes()}"
            time.sleep(1)
    print(said)
    print(places)
    assert len(seen - {HEAD_ID}) >= 2
    for what, nodes in places.items():
        assert nodes, f"no {what} was seen"
        assert nodes <= seen - {HEAD_ID}, f"{what} ran on {nodes}"
    assert rayscan.open(str(out)).assignments.num_rows == 500
    assert rayscan.open(str(out)).neighbors.num_rows == 300


def test_gpus_are_asked_of_the_autoscaler(tmp_path: Path) -> None:
    """There is no GPU here; the autoscaler's node says it has one, which the doctor sees through."""
    with started(num_cpus=0, node_types=GPU_NODES, idle_minutes=5.0) as head:
        job = ["submit", "--working-dir", ".", "--", "python", "-c", ASKED, str(tmp_path)]
        done = head.job(*job, timeout=120)
        assert done.returncode == 0, done.stdout[-4000:]
        assert "joined Ray: 1 node, 0 CPUs, 0 GPUs, more on demand" in done.stdout
        assert "infeasible" not in done.stdout
        deadline = time.monotonic() + LEAVE_SECONDS
        while len(head.nodes()) < 2:
            assert time.monotonic() < deadline, "what the autoscaler can bring is on its way"
            time.sleep(0.5)
        done = head.run("python", "-m", "rayscan", "doctor", "--address", head.address, timeout=120)
        assert done.returncode == 1
        assert "Ray offers 1 GPUs, torch sees 0" in done.stdout


WORKERS = ("RayTrainWorker", "ShardActor")
PARTS = ("look", "embed_part", "assign_part")
