"""Vectors at hand, imported: memory and speed of `rayscan.embeddings` beside numpy with everything in memory.

    python -m benchmarks.vectors_files --json F [--quick] [--rows N] [--dim D]

A float16 matrix of N rows (2,000,000; quick: 200,000) of D numbers (768) is written to a temporary folder,
none of them of unit length. Ours imports it part by part, 65,536 rows each, as tasks of the embed stage do;
numpy loads it, divides the rows by their lengths in float32 and saves float16. Each runs in a process of its
own, whose peak memory is told. `rows_per_second`: of ours. `time_ratio`: ours over numpy, wall time of the
process. `peak_mib`: of ours, `start_mib` of which it holds after its imports. `max_difference`: largest
difference between the numbers of both. The disk has to hold three matrices.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import ROOT, Options, Report, Times, interleaved, options, peak_bytes, ratio, spread

ROWS, QUICK_ROWS, DIM = 2_000_000, 200_000, 768
ROWS_PER_PART = 65_536
MIB = 1 << 20


def main() -> None:
    """Measure and report, or be one of the measured processes."""
    if sys.argv[1:2] == ["--contender"]:
        contender, source, out = sys.argv[2:5]
        print(json.dumps(CONTENDERS[contender](Path(source), Path(out))))
        return
    asked, rows, dim = sizes()
    report = Report(asked, "vectors_files")
    report.detail("rows", rows)
    report.detail("dim", dim)
    with tempfile.TemporaryDirectory(prefix="rayscan-") as folder:
        require_disk(Path(folder), 3 * 2 * rows * dim)
        source = Path(folder) / "x.npy"
        write(source, rows, dim)
        times = interleaved(
            {name: lambda name=name: process(name, source, Path(folder) / name) for name in CONTENDERS},
            rounds=asked.rounds,
            warmups=0,
        )
        report.value("max_difference", difference(Path(folder) / "ours", Path(folder) / "numpy"))
    tell(report, times, rows)


def sizes() -> tuple[Options, int, int]:
    """Options, rows and width that the command line asks for."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--dim", type=int, default=DIM)
    own, rest = parser.parse_known_args()
    asked = options(__doc__, rest)
    return asked, own.rows or (QUICK_ROWS if asked.quick else ROWS), own.dim


def require_disk(folder: Path, needed: int) -> None:
    """End where the disk is too small."""
    free = shutil.disk_usage(folder).free
    if free < needed + 1024 * MIB:
        sys.exit(f"{folder}: {needed / MIB:,.0f} MiB are needed and a GiB to spare, not {free / MIB:,.0f}")


def write(path: Path, rows: int, dim: int) -> None:
    """Write random rows, some at a time."""
    rng = np.random.default_rng(0)
    stored = np.lib.format.open_memmap(path, "w+", np.float16, (rows, dim))
    for first in range(0, rows, ROWS_PER_PART):
        some = stored[first : first + ROWS_PER_PART]
        some[:] = rng.standard_normal(some.shape, np.float32) * 3
    stored.flush()


def process(contender: str, source: Path, out: Path) -> dict[str, float]:
    """Run a contender in a process of its own; what it told of itself."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.vectors_files", "--contender", contender, source, out]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    told: dict[str, float] = json.loads(done.stdout)
    return told


def ours(source: Path, out: Path) -> dict[str, float]:
    """Import one part after the other."""
    from rayscan.artifacts import Draft, Step
    from rayscan.embeddings import import_part, open_vectors, parts_of
    from rayscan.storage import Place

    start = peak_bytes()
    vectors = open_vectors(str(source))
    draft = Draft(Place(str(out)), Step("embed", 1, {}))
    numbers = np.arange(vectors.rows)
    parts = parts_of(vectors, numbers, numbers, draft, dtype="float16", rows_per_part=ROWS_PER_PART)
    for part in parts:
        import_part(part)
    return {"start": start, "peak": peak_bytes()}


def numpy(source: Path, out: Path) -> dict[str, float]:
    """Load, divide, save."""
    start = peak_bytes()
    x = np.load(source, allow_pickle=False).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    out.mkdir()
    np.save(out / "x.npy", x.astype(np.float16))
    return {"start": start, "peak": peak_bytes()}


CONTENDERS: dict[str, Callable[[Path, Path], dict[str, float]]] = {"ours": ours, "numpy": numpy}


def difference(parts: Path, whole: Path) -> float:
    """Largest difference between the parts and the matrix at once."""
    most, first = 0.0, 0
    expected = np.load(whole / "x.npy", mmap_mode="r", allow_pickle=False)
    for path in sorted(parts.glob("*/*/part-*.npy")):
        x = np.load(path, allow_pickle=False).astype(np.float32)
        most = max(most, float(np.abs(x - expected[first : first + len(x)]).max()))
        first += len(x)
    if first != len(expected):
        raise AssertionError(f"{first} of {len(expected)} rows")
    return most


def tell(report: Report, times: dict[str, Times], rows: int) -> None:
    """The numbers of the report."""
    mine: dict[str, Any] = times["ours"].result
    report.value("rows_per_second", spread([rows / seconds for seconds in times["ours"].wall]))
    report.value("time_ratio", ratio(times["ours"], times["numpy"], "wall"))
    report.value("peak_mib", mine["peak"] / MIB)
    report.value("start_mib", mine["start"] / MIB)
    report.value("peak_mib_numpy", times["numpy"].result["peak"] / MIB)
    report.finish(times)


if __name__ == "__main__":
    main()
