"""Long runs in windows: the pipeline in a process of its own, stopped in time, resumed by the next call.

    window = Window(seconds=520)
    finished = window.run(recipe, out, data=..., eval_data=...)

A stopped run goes on from its last checkpoint; `times.json` in its directory adds up what each stage took
over all windows. The stage that was cut is charged with what is left of a window, start-up included.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rayscan.config import Recipe
from rayscan.pipeline import stages_of
from rayscan.run import Run, recipe_to_json

SHARED = Path(__file__).parents[2] / "shared" / "data"
GRACE_SECONDS = 45.0
INTERRUPTED = 130


def cifar10_options(doc: str | None, out: str) -> argparse.ArgumentParser:
    """The options that campaigns on CIFAR-10 share.

    Args:
        doc: What `--help` tells.
        out: Where runs lie by default.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED / "cifar10")
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--write", type=Path, metavar="FILE.md", help="also write the table there")
    return parser


class Window:
    """The time that is left; none means as long as it takes."""

    def __init__(self, seconds: float | None) -> None:
        """Start the clock."""
        self._end = None if seconds is None else time.monotonic() + seconds

    @property
    def left(self) -> float | None:
        """Seconds left, or none if there is no end."""
        return None if self._end is None else self._end - time.monotonic()

    def run(self, recipe: Recipe, out: Path, *, data: str, eval_data: str) -> bool:
        """Run until done or until the window closes.

        Args:
            recipe: All settings.
            out: Directory of the run.
            data: Train shards.
            eval_data: Eval shards.

        Returns:
            Whether the run is done.

        Raises:
            RuntimeError: the run failed by itself.
        """
        out.mkdir(parents=True, exist_ok=True)
        asked = out / "asked.json"
        asked.write_bytes(recipe_to_json(recipe))
        began = time.monotonic()
        options = ["run", str(asked), "--out", str(out), "--data", data, "--eval-data", eval_data]
        try:
            return self.ends(options)
        finally:
            add_times(recipe, out, time.monotonic() - began)

    def ends(self, options: Sequence[str]) -> bool:
        """Run `rayscan` until it ends by itself or the window closes.

        Args:
            options: Its command line.

        Returns:
            Whether it has ended; if not, the same call in a later window goes on from its last checkpoint.

        Raises:
            RuntimeError: it failed by itself.
        """
        status = self._wait(subprocess.Popen([sys.executable, "-m", "rayscan", *options]))
        if status not in (0, INTERRUPTED, -signal.SIGINT, -signal.SIGKILL):
            raise RuntimeError(f"rayscan {' '.join(options)} ended with {status}; see its last lines above")
        return status == 0

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        left = self.left
        try:
            return process.wait(None if left is None else max(1.0, left - GRACE_SECONDS))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        try:
            return process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()  # nothing is lost but what came after the last checkpoint
            return process.wait()


def add_times(recipe: Recipe, out: Path, elapsed: float) -> dict[str, float]:
    """Charge a window to the stages that ran in it; returns the sums so far."""
    path = out / "times.json"
    sums: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    try:
        record = json.loads((out / "run.json").read_text())["stages"]
    except FileNotFoundError:
        record = {}
    done = {name: stage["seconds"] for name, stage in record.items() if not stage["reused"]}
    names = [stage.NAME for stage in stages_of(recipe)]
    unfinished = next((name for name in names if name not in record), None)
    for name, seconds in done.items():
        sums[name] = sums.get(name, 0.0) + seconds
    rest = max(0.0, elapsed - sum(done.values()))
    key = "start-up" if unfinished in (None, "names", "labels", "evaluate") else unfinished
    sums[key] = sums.get(key, 0.0) + rest
    path.write_text(json.dumps(sums, indent=2))
    return sums


def times_of(out: Path) -> dict[str, float]:
    """Seconds of each stage over all windows."""
    sums: dict[str, float] = json.loads((out / "times.json").read_text())
    return sums


def scores_of(out: Path) -> dict[str, Any]:
    """The scores of a finished run."""
    return Run(str(out)).scores
