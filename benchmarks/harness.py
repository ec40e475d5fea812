"""What all benchmarks share: options, interleaved rounds, spread, and JSON that says where it was measured.

    asked = options(__doc__)
    times = interleaved({"ours": ours, "faiss": reference}, rounds=asked.rounds)
    report = Report(asked, "knn")
    report.value("cpu_ratio", ratio(times["ours"], times["faiss"]), goal=("<=", 1.1))
    report.detail("recall", 1.0)
    report.finish(times)

Contenders take turns within every round, and the one that begins moves on by one each round: a machine that
slows down or is shared slows all of them. Ratios are taken within a round, then their median.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import operator
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "rayscan",
    "torch",
    "torchvision",
    "numpy",
    "ray",
    "faiss-gpu",
    "faiss-cpu",
    "pyarrow",
    "webdataset",
)
MIN_ROUNDS = 3
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""Cores that this process may use."""
MEETS: Mapping[str, Callable[[float, float], bool]] = {"<=": operator.le, ">=": operator.ge}

Goal = tuple[Literal["<=", ">="], float]


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    quick: bool
    """Sizes that end within 10 minutes on two cores."""
    json: Path | None
    """Where the report goes, besides the screen."""
    rounds: int
    """Interleaved rounds, at least three."""


def options(doc: str | None, arguments: Sequence[str] | None = None, *, rounds: int = MIN_ROUNDS) -> Options:
    """Parse `[--quick] [--json FILE] [--rounds N]`.

    Args:
        doc: The benchmark's docstring; it is the help.
        arguments: Instead of the command line.
        rounds: Default number of rounds.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes: at most 10 minutes on two cores")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the report there")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"interleaved rounds, >= {MIN_ROUNDS}")
    asked = parser.parse_args(arguments)
    if asked.rounds < MIN_ROUNDS:
        parser.error(f"--rounds {asked.rounds}: a median needs at least {MIN_ROUNDS}")
    return Options(asked.quick, asked.json, asked.rounds)


@dataclass
class Times:
    """Seconds of every round of one contender, and what it returned last."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """CPU seconds of this process, its threads and the children it has waited for."""
    result: Any = None

    def summary(self) -> dict[str, Any]:
        """Median, smallest and largest, and every round."""
        return {"wall_s": spread(self.wall), "cpu_s": spread(self.cpu)}


def interleaved(
    contenders: Mapping[str, Callable[[], Any]], *, rounds: int = MIN_ROUNDS, warmups: int = 1
) -> dict[str, Times]:
    """Time every contender once per round, taking turns.

    Args:
        contenders: Name -> what to time. Preparation belongs outside of it.
        rounds: Measured rounds.
        warmups: Rounds before that count for nothing: caches, lazy imports, memory pools.
    """
    times = {name: Times() for name in contenders}
    names = list(contenders)
    for number in range(-warmups, rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            gc.collect()
            cpu, wall = _cpu_seconds(), time.perf_counter()
            result = contenders[name]()
            wall, cpu = time.perf_counter() - wall, _cpu_seconds() - cpu
            if number >= 0:
                times[name].wall.append(wall)
                times[name].cpu.append(cpu)
                times[name].result = result
    return times


def ratio(ours: Times, reference: Times, of: Literal["wall", "cpu"] = "cpu") -> dict[str, Any]:
    """Ours over the reference, round by round: below 1 is less time than the reference."""
    pairs = zip(getattr(ours, of), getattr(reference, of), strict=True)
    return spread([mine / theirs for mine, theirs in pairs])


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, smallest, largest, and all values in the order measured."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "rounds": list(values),
    }


class Report:
    """The named numbers of one benchmark, each with its goal if it has one."""

    def __init__(self, asked: Options, name: str) -> None:
        """Begin; the load of the machine is noted now, before the benchmark makes its own."""
        self.asked = asked
        self.values: dict[str, float | None] = {}
        self.goals: dict[str, dict[str, Any]] = {}
        self.details: dict[str, Any] = {}
        self.head = {"benchmark": name, "quick": asked.quick, "environment": environment()}

    def value(self, key: str, value: float | Mapping[str, Any] | None, *, goal: Goal | None = None) -> None:
        """Keep a number under its name.

        Args:
            key: Name of the number, at the top of the JSON.
            value: The number, or a `spread`, whose median is taken and which is kept beside; None if it
                could not be measured here.
            goal: What it shall be, such as ("<=", 1.1).
        """
        if isinstance(value, Mapping):
            self.details[key] = dict(value)
            value = float(value["median"])
        self.values[key] = value
        if goal is not None:
            sign, bound = goal
            is_met = None if value is None else MEETS[sign](value, bound)
            self.goals[key] = {"goal": f"{sign} {bound:g}", "is_met": is_met}

    def detail(self, key: str, value: Any) -> None:
        """Keep anything else that belongs beside: sizes, seeds, recall, loss."""
        self.details[key] = value

    def ceilings(self) -> None:
        """Measure what this processor multiplies; say and keep it: a ratio to a product hangs on its kind."""
        from benchmarks.ceilings import ceilings, said

        self.details["ceilings"] = ceilings()
        print(said(self.details["ceilings"]), flush=True)

    def finish(self, times: Mapping[str, Times] | None = None) -> dict[str, Any]:
        """Print the report and write it to `--json`.

        Args:
            times: What `interleaved` gave, to keep every round.

        Returns:
            What was written.
        """
        rounds = {name: taken.summary() for name, taken in (times or {}).items()}
        written = {**self.head, **self.values, "goals": self.goals, "details": self.details, "times": rounds}
        for key, value in self.values.items():
            goal = self.goals.get(key)
            verdict = "" if goal is None else f"   goal {goal['goal']}: {WORDS[goal['is_met']]}"
            print(f"{key:32} {'not measured' if value is None else format(value, '.5g')}{verdict}")
        if self.asked.json is not None:
            self.asked.json.parent.mkdir(parents=True, exist_ok=True)
            self.asked.json.write_text(json.dumps(written, indent=2) + "\n", encoding="ascii")
        return written


WORDS = {True: "met", False: "MISSED", None: "not measured"}


def environment() -> dict[str, Any]:
    """Where and with what: commit, versions, processor, memory, threads, GPUs, load before the start."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _commit(),
        "versions": versions,
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": CORES,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "gpus": _gpus(),
        "load_before": os.getloadavg()[0],
    }


def peak_bytes(pid: int | None = None) -> int:
    """Most memory a process has held since its program began, in bytes; 0 if it has ended.

    What `getrusage` tells begins with the size of the parent, which is that of a child until it calls exec.

    Args:
        pid: Of the process; this one if left out.
    """
    try:
        lines = Path(f"/proc/{pid or os.getpid()}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        is_mac = sys.platform == "darwin"
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if is_mac and pid is None else 0
    return 1024 * next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def _cpu_seconds() -> float:
    both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def _commit() -> str | None:
    """Commit of the code, with `+` if files differ from it; None outside a clone."""

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)

    try:
        head = git("rev-parse", "--short=12", "HEAD")
    except FileNotFoundError:
        return None
    if head.returncode:
        return None
    changed = git("status", "--porcelain", "--untracked-files=no").stdout.strip()
    return head.stdout.strip() + ("+" if changed else "")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def _gpus() -> list[str]:
    """Names of the GPUs; asks torch only if the benchmark has loaded it already."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
