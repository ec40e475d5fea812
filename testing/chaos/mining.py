"""A search for neighbors whose shard actors die.

`python -m testing.chaos.mining ADDRESS FOLDER DEATHS SEED` prints the sha256 over all parts and how many
actors were killed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from rayscan.artifacts import Draft, Step
from rayscan.config import FleetConfig
from rayscan.fleet.connect import Fleet
from rayscan.fleet.search_settings import SearchSettings
from rayscan.fleet.shards import mine_blocks
from rayscan.storage import Place
from rayscan.vectors.merge import Block, blocks
from rayscan.vectors.parts import EmbeddingRows
from testing.matrices import collapsed, embedded, planted

K = 20


def killer(deaths: int, seed: int, killed: list[int]) -> Callable[[Block, bool], None]:
    """Kills one actor after each of some blocks."""
    chance = random.Random(seed)
    due = sorted(chance.sample(range(1, 20), deaths))
    ended: list[str] = []

    def on_done(block: Block, _was_there: bool) -> None:
        ended.append(block.name)
        if len(ended) in due and (pids := shard_pids()):
            killed.append(chance.choice(pids))
            os.kill(killed[-1], signal.SIGKILL)

    return on_done


def shard_pids() -> list[int]:
    """Processes of shard actors of the fleet this process has joined, by their logs."""
    import ray

    session = ray._private.worker.global_worker.node.get_session_dir_path().encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            is_shard = path.read_bytes().startswith(b"ray::ShardActor")
            if is_shard and any(session in name for name in _opened(path.parent)):
                found.append(int(path.parent.name))
    return sorted(found)


def _opened(process: Path) -> list[bytes]:
    """Files a process holds open: its log lies in the session's directory."""
    return [str(link.readlink()).encode() for link in (process / "fd").iterdir()]


def main(address: str, folder: str, deaths: int, seed: int) -> None:
    """Mine 617 rows in 25 blocks on three shards."""
    root = Place(folder)
    killed: list[int] = []
    rows = EmbeddingRows(embedded(root, planted()))
    representatives, indexed = collapsed(rows, K)
    work = blocks(representatives, 25)
    with Fleet(FleetConfig(address=address), root) as fleet:
        fleet.joined()
        draft = Draft(root, Step("mine", 1, {"of": "faults"}))
        on_done = killer(deaths, seed, killed)
        files = mine_blocks(work, indexed, draft, SearchSettings(K, num_shards=3), on_done)
    digest = hashlib.sha256()
    for part in files:
        for name in ("ids", "scores"):
            digest.update(draft.place.read(part[name].path))
    print(json.dumps({"sha256": digest.hexdigest(), "killed": len(killed)}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
