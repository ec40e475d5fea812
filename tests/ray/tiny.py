"""The demo's river at a size that has a pulse: real digits, real Ray, a few steps of everything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

STAGES = [
    "index",
    "pretext",
    "embed",
    "mine",
    "duplicates",
    "scan",
    "selflabel",
    "assign",
    "labels",
    "baseline",
    "evaluate",
    "report",
]
"""Stages of the demo, in order."""

TINY = [
    "--pretext.epochs", "2",
    "--pretext.batch-size", "256",
    "--mine.num-neighbors", "10",
    "--mine.query-block", "400",
    "--scan.inputs", "both",
    "--scan.num-neighbors", "5",
    "--scan.head-num-neighbors", "10",
    "--scan.head-epochs", "5",
    "--scan.num-heads", "2",
    "--scan.heldout-fraction", "0.1",
    "--scan.epochs", "1",
    "--selflabel.epochs", "2",
    "--selflabel.threshold", "0.3",
    "--evaluate.kmeans-n-init", "2",
    "--embed.rows-per-part", "500",
    "--report.images-per-cluster", "4",
    "--fleet.checkpoint-every-seconds", "0",
]  # fmt: skip


def command(out: Path, *extra: str) -> list[str]:
    """The demo at a tiny size."""
    return [sys.executable, "-m", "rayscan", "demo", "--out", str(out), *TINY, *extra]


def run(arguments: list[str], timeout: float = 280, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; what it printed is in the assertion if it fails."""
    env = {**os.environ, **environment}
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=timeout, check=False, env=env)
    assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
    return done
