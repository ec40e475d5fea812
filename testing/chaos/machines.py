"""Several nodes on this machine, on loopback, with a token, in a directory of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rayscan.fleet.security import LOOPBACK, enable_token_auth

ROOT = Path(__file__).parents[2]


class Machines:
    """A head without CPUs and nodes of one CPU each. Nodes are added from the main thread only."""

    def __init__(self, cluster: Any) -> None:
        """Wrap a cluster whose head is up."""
        self.cluster = cluster

    @property
    def address(self) -> str:
        """Where drivers join."""
        return str(self.cluster.address)

    def add(self) -> Any:
        """One more node."""
        return self.cluster.add_node(num_cpus=1, node_ip_address=LOOPBACK)

    def fill(self, count: int) -> None:
        """Bring the number of worker nodes to `count`."""
        while len(self.cluster.worker_nodes) > count:
            self.lose(next(iter(self.cluster.worker_nodes)))
        while len(self.cluster.worker_nodes) < count:
            self.add()

    def node(self, node_id: str) -> Any:
        """A worker node by Ray's id."""
        return next(n for n in self.cluster.worker_nodes if n.node_id == node_id)

    def lose(self, node: Any, *pids: int) -> None:
        """A node and all its processes are gone at once; its workers would outlive it by a moment."""
        for pid in pids:
            kill(pid)
        self.cluster.remove_node(node, allow_graceful=False)

    def drain(self, node: Any, seconds: float) -> None:
        """A spot notice: this node will be taken in so many seconds."""
        from ray._raylet import GcsClient
        from ray.core.generated import autoscaler_pb2

        deadline_ms = int((time.time() + seconds) * 1000)
        reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        GcsClient(address=self.address).drain_node(node.node_id, reason, "spot notice", deadline_ms)


@contextlib.contextmanager
def machines(nodes: int) -> Iterator[Machines]:
    """Start a head and nodes; end exactly what was started."""
    from ray.cluster_utils import Cluster

    enable_token_auth()
    root = tempfile.mkdtemp(prefix="chaos-")
    (Path(root) / "ray").mkdir()
    before = os.environ.get("RAY_TMPDIR")
    os.environ["RAY_TMPDIR"] = root  # also the note of the current address stays in there
    head = {"num_cpus": 0, "node_ip_address": LOOPBACK, "include_dashboard": False, "temp_dir": f"{root}/ray"}
    cluster = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=True)
    try:
        found = Machines(cluster)
        found.fill(nodes)
        cluster.wait_for_nodes()
        yield found
    finally:
        cluster.shutdown()
        os.environ.pop("RAY_TMPDIR")
        if before is not None:
            os.environ["RAY_TMPDIR"] = before
        shutil.rmtree(root, ignore_errors=True)


def environment_here() -> dict[str, str]:
    """For a process that joins machines on loopback; without the last it would join from outside."""
    here = {
        "RAY_AUTH_MODE": "token",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **here}


def start_driver(spec: Path, log: Path) -> subprocess.Popen[bytes]:
    """A driver of the toy training, in a session of its own."""
    with log.open("ab") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "testing.chaos.driver", str(spec)],
            cwd=ROOT,
            env=environment_here(),
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


def kill(pid: int, sig: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, sig)
