"""A service of a run as a process of its own, and a client that asks it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

TOKEN = "token-of-a-test-0123456789"
START_SECONDS = 600


def free_port() -> int:
    """A TCP port of loopback that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Service:
    """Where it listens, and its process."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, said: Path | None = None) -> None:
        self.process, self.port, self._said = process, port, said
        self.url = f"http://127.0.0.1:{port}"

    def client(self, token: str | None = TOKEN, **options: Any) -> httpx.Client:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        options = {"timeout": 120, **options}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, **options)

    def wait(self) -> None:
        """Until it answers, and says that all replicas it begins with do."""
        end = time.monotonic() + START_SECONDS
        with self.client() as client:
            while time.monotonic() < end and self.process.poll() is None:
                try:
                    is_said = self._said is None or b"POST http" in self._said.read_bytes()
                    if is_said and client.get("/health").status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                time.sleep(0.5)
        raise AssertionError(f"the service does not answer; its process: {self.process.poll()}")

    def replicas(self) -> list[int]:
        """Process ids of the replicas, children of the Ray that the service started."""
        return [pid for pid in _below(self.process.pid) if b"ServeReplica:rayscan:replicas" in _command(pid)]

    def cpu_seconds(self) -> float:
        """CPU time of the service and of all processes of its Ray that still run."""
        return sum(_cpu_seconds(pid) for pid in (self.process.pid, *_below(self.process.pid)))


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _below(pid: int) -> list[int]:
    """All processes that a process started, and those started."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return found


@contextmanager
def running(run: Path | str, folder: Path, *arguments: str) -> Iterator[Service]:
    """`rayscan serve` of a run, with the token TOKEN, until the block ends.

    Args:
        run: The --out of the run.
        folder: For the token and what the service says.
        arguments: More of the command line.
    """
    (folder / "token").write_text(TOKEN)
    port = free_port()
    command = [sys.executable, "-m", "rayscan", "serve", str(run), "--token-file", str(folder / "token")]
    command += ["--serve.port", str(port), *arguments]
    with (folder / "said").open("wb") as said:
        env = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
        process = subprocess.Popen(command, stdout=said, stderr=said, env=env)
        service = Service(process, port, folder / "said")
        try:
            service.wait()
            yield service
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
