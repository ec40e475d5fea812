"""`ray job submit -- python -m rayscan.full_imagenet` on a head without CPUs and two nodes of one CPU each.

Full-size photos of ImageNet go through the whole river; pretext, mine and scan have a worker on each node.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rayscan
from rayscan.fleet.security import enable_token_auth
from tests.nodes.head import free_port

ROOT = Path(__file__).parents[2]
PHOTOS = ROOT.parent / "shared" / "data" / "imagenet-sample"
TINY = [
    "--num-clusters", "20",
    "--images.size-px", "48",
    "--pretext.backbone", "resnet10_w16",
    "--pretext.epochs", "1",
    "--pretext.batch-size", "100",
    "--embed.num-views", "2",
    "--embed.rows-per-part", "150",
    "--mine.num-neighbors", "10",
    "--mine.query-block", "100",
    "--scan.inputs", "both",
    "--scan.num-neighbors", "5",
    "--scan.num-heads", "2",
    "--scan.head-epochs", "3",
    "--scan.epochs", "1",
    "--scan.batch-size", "150",
    "--selflabel.epochs", "1",
    "--selflabel.threshold", "0.1",
    "--selflabel.batch-size", "150",
    "--fleet.num-workers", "2",
]  # fmt: skip


class Machines:
    """A Ray of three nodes on this machine; its jobs' address."""

    def __init__(self, dashboard: str, address: str) -> None:
        self.dashboard = dashboard
        self.address = address


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machines]:
    if not PHOTOS.is_dir():
        pytest.skip(f"no ImageNet photos at {PHOTOS.relative_to(ROOT.parent)}")
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    enable_token_auth()
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "include_dashboard": True,
            "dashboard_port": 0,
            "dashboard_host": "127.0.0.1",
            "dashboard_agent_listen_port": free_port(),  # its default is taken where another Ray runs
        },
    )
    try:
        for number in range(2):  # each with its own place for the job's upload, as machines apart have
            cluster.add_node(
                num_cpus=1,
                runtime_env_dir_name=f"runtime_resources-{number}",
                dashboard_agent_listen_port=free_port(),
            )
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False)
        dashboard = ray._private.worker.global_worker.node.webui_url  # the port was chosen by Ray
        ray.shutdown()
        yield Machines(f"http://{dashboard}", cluster.address)
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_submitted_job_ends_with_a_report(machines: Machines, tmp_path: Path) -> None:
    out = tmp_path / "run"
    ray_command = Path(sys.executable).with_name("ray")
    job = [str(ray_command), "job", "submit", "--address", machines.dashboard, "--working-dir", ".", "--"]
    entry = [sys.executable, "-m", "rayscan.full_imagenet", *TINY, "--out", str(out)]
    data = ["--data", f"{PHOTOS}/imagenet-sample-{{000000..000002}}.tar"]
    evals = ["--eval-data", f"{PHOTOS}/imagenet-sample-{{000003..000004}}.tar"]
    environment = {**os.environ, "RAY_AUTH_MODE": "token"}
    done = subprocess.run(
        [*job, *entry, *data, *evals], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=580
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert "joined Ray: 3 nodes, 2 CPUs" in done.stdout
    assert "demands no token" not in done.stdout
    run = rayscan.open(str(out))
    assert run.assignments.num_rows == 500
    assert run.neighbors.num_rows == 300
    assert (out / "report" / "index.html").stat().st_size > 100_000
    assert set(run.scores["splits"]) == {"eval", "train"}
