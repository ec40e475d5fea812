"""A Ray head of a test's own: loopback, own ports and files, token authentication; ended by its process id.

With `node_types` it autoscales: Ray's fake provider starts a real raylet on this machine for each node. The
provider is named as an external one, because the example file that its own type wants is not in Ray's wheel.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RAY = Path(sys.executable).with_name("ray")
PROVIDER = "provider.NodesApart"
"""tests/nodes/provider.py, found through PYTHONPATH."""
HEAD_ID = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"
START_SECONDS = 90.0


@dataclass(frozen=True)
class Head:
    """Where a running head answers, and the environment that may talk to it."""

    address: str
    dashboard: str
    environment: Mapping[str, str]
    log: Path

    def job(self, *arguments: str, timeout: float) -> subprocess.CompletedProcess[str]:
        """`ray job ...` against this head."""
        return self.run(str(RAY), "job", *arguments, timeout=timeout)

    def read(self, path: str) -> bytes:
        """What the dashboard answers."""
        token = Path(self.environment["RAY_AUTH_TOKEN_PATH"]).read_text()
        request = urllib.request.Request(self.dashboard + path, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            data: bytes = answer.read()
            return data

    def ask(self, path: str) -> Any:
        """JSON from the dashboard."""
        return json.loads(self.read(path))["data"]

    def nodes(self) -> set[str]:
        """Identities of the nodes that are alive, the head among them."""
        summary = self.ask("/nodes?view=summary")["summary"]
        return {n["raylet"]["nodeId"] for n in summary if n["raylet"].get("state") == "ALIVE"}

    def run(self, *command: str, timeout: float) -> subprocess.CompletedProcess[str]:
        """Any command, from the root of the clone."""
        return subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


def free_port() -> int:
    """A port nobody listens on; the system hands out others than Ray's workers take (10002-19999)."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
        return port


@contextmanager
def started(
    *, num_cpus: int, node_types: Mapping[str, Any] | None = None, idle_minutes: float = 0.1
) -> Iterator[Head]:
    """Start a head, and end it and everything it started.

    Args:
        num_cpus: CPUs the head offers.
        node_types: `available_node_types` of an autoscaler, without the head's.
        idle_minutes: After which the autoscaler takes a node away.
    """
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short: it is part of the names of sockets
    port, dashboard = free_port(), free_port()
    environment = _environment(folder, port, dashboard, is_autoscaling=node_types is not None)
    command = [
        str(RAY), "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}",
        "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", "--dashboard-agent-listen-port=0",
        f"--ray-client-server-port={free_port()}", f"--num-cpus={num_cpus}", "--num-gpus=0",
        f"--temp-dir={folder}", "--disable-usage-stats", "--object-store-memory=200000000",
    ]  # fmt: skip
    if node_types is not None:
        command.append(f"--autoscaling-config={_config(folder, port, node_types, idle_minutes)}")
    log = folder / "head.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=said, stderr=said, start_new_session=True
        )
    try:
        head = Head(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}", environment, log)
        _wait(head, process)
        yield head
    finally:
        _end(process, folder)
        shutil.rmtree(folder, ignore_errors=True)


def _environment(folder: Path, port: int, dashboard: int, *, is_autoscaling: bool) -> dict[str, str]:
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PYTHONPATH"))},
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ADDRESS": f"http://127.0.0.1:{dashboard}",  # what `ray job` asks; a job is given its own
        "OMP_NUM_THREADS": "1",
        "PATH": f"{RAY.parent}{os.pathsep}{os.environ['PATH']}",
    }
    # Ray replaces a loopback address by an outward one, except where it allows one machine only.
    environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    if is_autoscaling:
        environment |= {
            "PYTHONPATH": str(Path(__file__).parent),
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        }
    return environment


def _config(folder: Path, port: int, node_types: Mapping[str, Any], idle_minutes: float) -> Path:
    """What `ray up` would have put on the head of a cloud's cluster."""
    head = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    config = {
        "cluster_name": "rayscan-test",
        "max_workers": sum(kind["max_workers"] for kind in node_types.values()),
        "idle_timeout_minutes": idle_minutes,
        "upscaling_speed": 10.0,
        "provider": {
            "type": "external",
            "module": PROVIDER,
            "gcs_address": f"127.0.0.1:{port}",
            "head_node_id": HEAD_ID,
            "launch_multiple": True,
        },
        "available_node_types": {**node_types, "ray.head.default": head},
        "head_node_type": "ray.head.default",
        "auth": {}, "docker": {}, "file_mounts": {}, "cluster_synced_files": [],
        "initialization_commands": [], "setup_commands": [], "head_setup_commands": [],
        "worker_setup_commands": [], "head_start_ray_commands": [], "worker_start_ray_commands": [],
    }  # fmt: skip
    path = folder / "autoscaling.json"
    path.write_text(json.dumps(config))
    return path


def _wait(head: Head, process: subprocess.Popen[bytes]) -> None:
    """Until jobs are taken."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if head.job("list", timeout=60).returncode == 0:
            return
        time.sleep(0.5)
    raise AssertionError(f"the head did not start\n{head.log.read_text()[-3000:]}")


def _end(process: subprocess.Popen[bytes], folder: Path) -> None:
    """End the head, then what is left of it: processes that name its own folder or carry it in their name."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid in _left(folder):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _left(folder: Path) -> list[int]:
    """Processes that were started with this head's folder in their arguments or environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            told = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in told and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found
