"""Hosts that are network namespaces of this machine, each with an address and a line that can be cut.

    hub: a bridge      head 10.77.0.1      one 10.77.0.2      two 10.77.0.3

Everything lies in namespaces made here, also the bridge: nothing of the machine's own network is touched.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rayscan.fleet.security import secure_token

ROOT = Path(__file__).parents[2]
RAY = str(Path(sys.executable).with_name("ray"))
PORT = 6399
START_SECONDS = 60.0
NAMES = ("one", "two")


def reason_to_skip() -> str | None:
    """Why this machine cannot have namespaces, if so."""
    if not hasattr(os, "getuid") or os.getuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None or shutil.which("nsenter") is None:
        return "network namespaces need iproute2 and nsenter"
    name = f"rs-{secrets.token_hex(3)}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        return "this system allows no network namespaces"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return None


class Host:
    """A namespace with one address, on the bridge."""

    def __init__(self, hub: str, name: str, address: str) -> None:
        """Make it and plug it in."""
        self.hub, self.name, self.address = hub, f"{hub}-{name}", address
        self.line = f"v{secrets.token_hex(4)}"
        self.processes: list[subprocess.Popen[bytes]] = []
        ip("netns", "add", self.name)
        ip("link", "add", self.line, "netns", hub, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("-n", hub, "link", "set", self.line, "master", "bridge", "up")
        ip("-n", self.name, "addr", "add", f"{address}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            ip("-n", self.name, "link", "set", device, "up")
        ip(
            "-n", self.name, "route", "add", "default", "dev", "eth0"
        )  # Ray asks by which address it would leave

    def cut(self) -> None:
        """Nothing comes in or goes out."""
        ip("-n", self.hub, "link", "set", self.line, "down")

    def mend(self) -> None:
        """The line is back."""
        ip("-n", self.hub, "link", "set", self.line, "up")

    def boot(self, own: str, *command: str, environment: dict[str, str], log: Path) -> None:
        """The first process, which sees a disk of its own at `own`: hosts share no sockets of Ray's."""
        script = 'mount -t tmpfs disk "$0" && exec "$@"'
        self._run(["ip", "netns", "exec", self.name, "bash", "-c", script, own, *command], environment, log)

    def start(self, *command: str, environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
        """A process beside the first, in a session of its own."""
        first = str(self.processes[0].pid)
        return self._run(["nsenter", "--target", first, "--mount", "--net", *command], environment, log)

    def _run(self, command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as said:
            started = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        self.processes.append(started)
        return started

    def pids(self) -> list[int]:
        """Everything that runs in here."""
        return [int(pid) for pid in ip("netns", "pids", self.name).split()]

    def clear(self) -> None:
        """End everything that runs in here, and nothing else."""
        deadline = time.monotonic() + 20
        while (pids := self.pids()) and time.monotonic() < deadline:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        for process in self.processes:
            process.wait(timeout=20)
        self.processes.clear()


class Hosts:
    """A head without CPUs and two workers with one each."""

    def __init__(self, folder: Path) -> None:
        """Make the namespaces; nothing runs yet."""
        self.folder = folder
        self.hub = f"rs{secrets.token_hex(2)}"
        ip("netns", "add", self.hub)
        ip("-n", self.hub, "link", "add", "bridge", "type", "bridge")
        ip("-n", self.hub, "link", "set", "bridge", "up")
        self.head = Host(self.hub, "head", "10.77.0.1")
        self.workers = [Host(self.hub, name, f"10.77.0.{2 + n}") for n, name in enumerate(NAMES)]
        self.temporary = tempfile.mkdtemp(prefix="hosts-")
        token = folder / "token"
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("RAY_")},
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_timeout_ms": "3000",
            "RAY_health_check_failure_threshold": "5",
        }
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)
        secure_token()
        del os.environ["RAY_AUTH_TOKEN_PATH"]

    @property
    def address(self) -> str:
        """Where drivers join."""
        return f"{self.head.address}:{PORT}"

    def up(self) -> None:
        """Start the head and both workers."""
        where = ["--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={self.temporary}"]
        self._ray(self.head, 0, *where)
        until(lambda: self.count() == 1, "the head", self.folder / "head.log")
        for number, worker in enumerate(self.workers):
            self.join(worker)
            until(lambda n=number: self.count() == n + 2, "a worker", self.folder / f"{NAMES[number]}.log")

    def join(self, worker: Host) -> None:
        """Start a worker node, as whatever supervises nodes does when one has ended."""
        self._ray(worker, 1, f"--address={self.address}")

    def count(self) -> int:
        """Nodes that are alive, as the head sees them."""
        asked = subprocess.run(
            ["ip", "netns", "exec", self.head.name, sys.executable, "-c", COUNT, self.address],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return int(asked.stdout) if asked.returncode == 0 else 0

    def down(self) -> None:
        """End everything and remove the namespaces."""
        for host in (*self.workers, self.head):
            host.clear()
            ip("netns", "del", host.name)
        ip("netns", "del", self.hub)
        shutil.rmtree(self.temporary, ignore_errors=True)

    def _ray(self, host: Host, cpus: int, *more: str) -> None:
        name = host.name.rpartition("-")[2]
        common = ["--block", f"--num-cpus={cpus}", f"--node-ip-address={host.address}"]
        memory = f"--object-store-memory={150 * 1024 * 1024}"
        log = self.folder / f"{name}.log"
        where = [] if cpus == 0 else [f"--temp-dir={self.temporary}"]
        command = [RAY, "start", *common, memory, *where, *more]
        host.boot(self.temporary, *command, environment=self.environment, log=log)


COUNT = """
import sys
from ray._raylet import GcsClient
print(sum(node.state == 0 for node in GcsClient(address=sys.argv[1]).get_all_node_info(timeout=10).values()))
"""


@contextlib.contextmanager
def hosts(folder: Path) -> Iterator[Hosts]:
    """Three hosts, up; gone afterwards."""
    made = Hosts(folder)
    try:
        made.up()
        yield made
    finally:
        made.down()


def until(is_so, what: str, log: Path) -> None:
    """Wait for something that must come."""
    deadline = time.monotonic() + START_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, f"{what} never came\n{log.read_text()[-3000:]}"
        time.sleep(0.5)


def ip(*arguments: str) -> str:
    """iproute2."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
    return done.stdout
