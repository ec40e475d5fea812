"""The parts of `benchmarks.vectors` that run through Ray actors."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.harness import Options, Report, Times, ratio
from benchmarks.mining.sets import Rows, clustered
from rayscan.artifacts import Artifact, Draft, Step
from rayscan.fleet.search_settings import SearchSettings
from rayscan.fleet.shards import mine_blocks
from rayscan.storage import Place
from rayscan.vectors.duplicates import Copies
from rayscan.vectors.merge import Block, IndexedRows, blocks
from rayscan.vectors.parts import EmbeddingRows

K = 20
SETTLED_BLOCKS = 4
"""Blocks before the clock starts: by then every actor has loaded its shard."""
NO_COPIES = Copies(np.empty(0, np.int64), np.zeros(1, np.int64), np.empty(0, np.int64))


def embedded(place: Place, x: Rows, rows_per_part: int = 65_536, num_eval: int = 0) -> Artifact:
    """An embed result of the rows of `x`, the last `num_eval` of the eval split, as the stage leaves it."""
    draft = Draft(place, Step("embed", 1, {"rows": len(x), "dim": x.shape[1]}))
    firsts = list(range(0, len(x), rows_per_part))
    names = [f"part-{number:05d}.npy" for number in range(len(firsts))]
    counts = [len(x[first : first + rows_per_part]) for first in firsts]
    files = {
        name: draft.write_array(name, x[first : first + rows_per_part])
        for name, first in zip(names, firsts, strict=True)
    }
    table = {"part": list(range(len(names))), "name": names, "first_row": firsts, "rows": counts}
    files["parts.parquet"] = draft.write_table("parts.parquet", pa.table(table))
    files["gids.npy"] = draft.write_array("gids.npy", np.arange(len(x)))
    facts = {"rows": len(x), "train_rows": len(x) - num_eval, "dim": x.shape[1], "num_views": 1}
    return draft.commit(files, facts=facts)


@contextmanager
def local_ray() -> Iterator[None]:
    """A Ray of this process."""
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()


def sharding(asked: Options, report: Report) -> dict[str, Times]:
    """CPU and wall time of 4 shards over those of 1, both through Ray, once all actors have loaded."""
    num_rows, num_blocks, block = (200_000, 24, 1024)
    times = {"shards_1": Times(), "shards_4": Times()}
    with tempfile.TemporaryDirectory() as folder, local_ray():
        root = Place(folder)
        rows = EmbeddingRows(embedded(root, clustered(num_rows, 128, seed=1)))
        indexed = IndexedRows(rows, np.arange(num_rows), NO_COPIES)
        work = blocks(np.arange(num_blocks * block), block)
        for number in range(asked.rounds):
            order = ("shards_1", "shards_4") if number % 2 else ("shards_4", "shards_1")
            for name in order:
                draft = Draft(root, Step("mine", 1, {"round": number, "of": name}))
                wall, cpu = _mine(work, indexed, draft, int(name[-1]))
                times[name].wall.append(wall)
                times[name].cpu.append(cpu)
    report.value("sharding_overhead", ratio(times["shards_4"], times["shards_1"]), goal=("<=", 1.10))
    report.detail("sharding", {"rows": num_rows, "dim": 128, "queries": num_blocks * block, "k": K})
    return times


def _mine(work: list[Block], indexed: IndexedRows, draft: Draft, num_shards: int) -> tuple[float, float]:
    """Wall and CPU seconds of the blocks after the first SETTLED_BLOCKS."""
    marks: list[tuple[float, dict[int, float]]] = []

    def mark(_block: Block, _was_there: bool) -> None:
        marks.append((time.perf_counter(), cpu_of_workers()))

    mine_blocks(work, indexed, draft, SearchSettings(K, num_shards), mark)
    (began, before), (ended, after) = marks[SETTLED_BLOCKS - 1], marks[-1]
    return ended - began, sum(after.values()) - sum(before.get(pid, 0.0) for pid in after)


def cpu_of_workers() -> dict[int, float]:
    """CPU seconds so far of every Ray worker below this process, by its number."""
    tick, used = os.sysconf("SC_CLK_TCK"), dict[int, float]()
    for pid in workers(b"ray::"):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        used[pid] = (int(fields[11]) + int(fields[12])) / tick
    return used


def workers(title: bytes) -> list[int]:
    """Processes below this one whose title begins so; no other Ray of this machine is looked at."""
    parents, found = dict[int, int](), []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if (folder / "cmdline").read_bytes().startswith(title):
                found.append(int(folder.name))
        except OSError:
            continue

    def is_ours(pid: int) -> bool:
        while pid > 1 and pid != os.getpid():
            pid = parents.get(pid, 0)
        return pid == os.getpid()

    return [pid for pid in found if is_ours(pid)]
