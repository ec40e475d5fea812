"""What every node of a fleet has, and what is wrong with it.

Whatever differs between nodes fails late and far from its cause: in a worker that unpickles a class of
another version, in a shard that does not fit, in a result that only some can read.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import secrets
import shutil
import socket
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rayscan.errors import RayscanError
from rayscan.fleet.connect import Fleet
from rayscan.storage import Place

SAME_EVERYWHERE = ("python", "rayscan", "ray", "torch", "torchvision", "numpy", "pyarrow")
ANSWER_SECONDS = 120.0
GIGA = 1e9
LEAST_DISK = 10 * GIGA
FULL_DISK = 0.95
"""Share at which Ray stops giving a node work."""
LEAST_MEMORY = 2 * GIGA
MOST_SKEW = 30.0
"""s by which clocks may differ before heartbeats and signatures of storage go wrong."""


@dataclass(frozen=True)
class NodeReport:
    """A node's own account of itself. Sizes in bytes."""

    name: str
    versions: Mapping[str, str]
    unmet: tuple[str, ...] = ()
    """Requirements of rayscan that are not installed as they should be."""
    torch_gpus: tuple[str, ...] = ()
    memory: int = 0
    memory_free: int = 0
    shm: int = 0
    disk_free: int = 0
    disk: int = 1
    clock: float = 0.0
    """s between its clock and the driver's."""
    storage: str = ""
    """Why --out cannot be written and read; empty if it can, or was not asked."""
    cpus: float = 0.0
    """Offered to Ray, as all below."""
    gpus: float = 0.0
    object_store: float = 0.0
    trouble: str = ""
    """Why the node could not be asked."""

    def lines(self, *, knows_ray: bool = True) -> list[str]:
        """Lines of text for a person."""
        if self.trouble:
            return [f"{self.name}: no answer"]
        gpus = ", ".join(f"{n} x {gpu}" for gpu, n in Counter(self.torch_gpus).items()) or "no GPU"
        offers = f"{self.cpus:g} CPUs, {self.gpus:g} GPUs for Ray" if knows_ray else f"{os.cpu_count()} CPUs"
        return [
            f"{self.name}: {offers}; {gpus}",
            f"  memory {self.memory_free / GIGA:.1f} of {self.memory / GIGA:.1f} GB free, "
            f"/dev/shm {self.shm / GIGA:.1f} GB, "
            + (f"object store {self.object_store / GIGA:.1f} GB, " if knows_ray else "")
            + f"disk {self.disk_free / GIGA:.0f} of {self.disk / GIGA:.0f} GB free",
            "  " + ", ".join(f"{name} {version}" for name, version in self.versions.items()),
        ]


def inspect_node(storage: Place | None, asked_at: float) -> NodeReport:
    """Report what this machine has; runs as a task on every node.

    Args:
        storage: Where a small file is written, read and deleted; None leaves it.
        asked_at: The driver's clock, s.
    """
    clock = time.time() - asked_at
    memory, free = _memory()
    disk = shutil.disk_usage("/tmp")
    shm = Path("/dev/shm")
    return NodeReport(
        name=socket.gethostname(),
        versions=_versions(),
        unmet=_unmet(),
        torch_gpus=_torch_gpus(),
        memory=memory,
        memory_free=free,
        shm=shutil.disk_usage(shm).total if shm.is_dir() else 0,
        disk_free=disk.free,
        disk=disk.total,
        clock=clock,
        storage="" if storage is None else _try_storage(storage),
    )


def inspect_nodes(fleet: Fleet, storage: Place | None) -> list[NodeReport]:
    """Ask every node of the fleet; one that cannot answer is reported so.

    Args:
        fleet: Joined if need be.
        storage: See `inspect_node`.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

    fleet.join()
    nodes = [node for node in ray.nodes() if node["Alive"]]
    task = ray.remote(num_cpus=0, max_retries=0)(inspect_node)
    asked = [
        task.options(scheduling_strategy=On(node["NodeID"], soft=False)).remote(storage, time.time())
        for node in nodes
    ]
    deadline = time.monotonic() + ANSWER_SECONDS
    reports = []
    for node, answer in zip(nodes, asked, strict=True):
        name = f"{node['NodeManagerHostname']} {node['NodeManagerAddress']} ({node['NodeID'][-8:]})"
        has = node["Resources"]
        offered = {"cpus": has.get("CPU", 0.0), "gpus": has.get("GPU", 0.0)}
        try:
            said = ray.get(answer, timeout=max(1.0, deadline - time.monotonic()))
        except ray.exceptions.RayError as error:
            reports.append(NodeReport(name, {}, trouble=str(error).strip().splitlines()[-1], **offered))
            continue
        store = has.get("object_store_memory", 0.0)
        reports.append(replace(said, name=name, object_store=store, **offered))
    return reports


def findings(
    reports: Sequence[NodeReport], *, driver: NodeReport | None = None, knows_ray: bool = True
) -> list[str]:
    """Findings about a fleet, a line each; empty if the machines are fit.

    Args:
        reports: Of all nodes.
        driver: Of the process that asks, which unpickles what they send; only its versions count.
        knows_ray: Whether the nodes were asked through Ray, so that what it offers is known.
    """
    found: list[str] = []
    for report in reports:
        if report.trouble:
            found.append(f"{report.name}: cannot run rayscan: {report.trouble}")
            continue
        found += [f"{report.name}: {text}" for text in _node_findings(report, knows_ray=knows_ray)]
    asked = [report for report in (*reports, driver) if report is not None and not report.trouble]
    for package in SAME_EVERYWHERE:
        having: dict[str, list[str]] = {}
        for report in asked:
            having.setdefault(report.versions.get(package, "none"), []).append(report.name)
        if len(having) > 1:
            parts = "; ".join(f"{version} on {', '.join(names)}" for version, names in having.items())
            found.append(f"{package} differs: {parts}")
    return found


def _node_findings(report: NodeReport, *, knows_ray: bool) -> list[str]:
    """Findings about one node."""
    seen = len(report.torch_gpus)
    checks = [
        (bool(report.unmet), f"not installed as rayscan requires: {', '.join(report.unmet)}"),
        (knows_ray and report.gpus > seen, f"Ray offers {report.gpus:g} GPUs, torch sees {seen}"),
        (knows_ray and report.gpus == 0 < seen, f"torch sees {seen} GPUs, Ray offers none of them"),
        (
            report.shm < report.object_store,
            f"/dev/shm has {report.shm / GIGA:.1f} GB, less than the object store of "
            f"{report.object_store / GIGA:.1f} GB: Ray would use the disk instead (docker run --shm-size)",
        ),
        (report.memory_free < LEAST_MEMORY, f"only {report.memory_free / GIGA:.1f} GB of memory are free"),
        (
            report.disk_free < LEAST_DISK or report.disk_free < (1 - FULL_DISK) * report.disk,
            f"only {report.disk_free / GIGA:.1f} GB of {report.disk / GIGA:.0f} GB are free under /tmp",
        ),
        (abs(report.clock) > MOST_SKEW, f"its clock is {report.clock:+.0f} s off"),
        (bool(report.storage), f"cannot use the storage: {report.storage}"),
    ]
    return [text for is_wrong, text in checks if is_wrong]


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in SAME_EVERYWHERE[1:]:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def _unmet() -> tuple[str, ...]:
    """Requirements of the installed rayscan that this environment does not meet."""
    from packaging.requirements import Requirement

    try:
        asked = [Requirement(text) for text in importlib.metadata.requires("rayscan") or []]
    except importlib.metadata.PackageNotFoundError:
        return ()  # run from a clone that is not installed: the job's upload brings the code alone
    unmet = []
    for requirement in asked:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            have = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            have = "none"
        if have == "none" or not requirement.specifier.contains(have, prereleases=True):
            unmet.append(f"{requirement.name}{requirement.specifier} (has {have})")
    return tuple(unmet)


def _torch_gpus() -> tuple[str, ...]:
    import torch

    return tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))


def _memory() -> tuple[int, int]:
    """Bytes of memory, in all and free for use; a container's limit counts."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = page * os.sysconf("SC_PHYS_PAGES")
    lines = _read("/proc/meminfo").splitlines()
    free = next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), total)
    limit, used = _read("/sys/fs/cgroup/memory.max"), _read("/sys/fs/cgroup/memory.current")
    if limit.isdigit() and used.isdigit() and int(limit) < total:
        total, free = int(limit), min(free, int(limit) - int(used))
    return total, free


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _try_storage(place: Place) -> str:
    name, token = f".doctor-{secrets.token_hex(6)}", secrets.token_bytes(64)
    try:
        place.write(name, token)
        is_same = place.read(name) == token
        place.delete(name)
    except (OSError, RayscanError) as error:
        return f"{place.uri}: {str(error).splitlines()[0]}"
    return "" if is_same else f"{place.uri}: read other bytes than were written"
