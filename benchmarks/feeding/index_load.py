"""Load an index of so many rows, in a process of its own: `python -m benchmarks.feeding.index_load DIR ROWS`.

Prints seconds, and the megabytes by which the process grew at most.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import pyarrow as pa

from benchmarks.harness import peak_bytes
from rayscan.artifacts import Artifact, Draft, Step, load
from rayscan.data.table import IMAGE_SCHEMA, IMAGES, SHARDS, ImageTable
from rayscan.storage import Place

PER_SHARD = 1000


def write(place: Place, count: int) -> Artifact:
    """An index like ImageNet's: keys with class and number, lengths around 110 kB."""
    rng = np.random.default_rng(0)
    gid = np.arange(count)
    length = rng.integers(20_000, 200_000, count)
    key = pa.array([f"n{g % 1000:08d}/n{g % 1000:08d}_{g}" for g in range(count)])
    columns = {
        "gid": gid,
        "split": pa.array(["train"]).take(pa.array(np.zeros(count, int))),
        "shard": gid // PER_SHARD,
        "key": key,
        "offset": np.cumsum(length + 1536) % 10**9,
        "length": length,
        "crc32": rng.integers(0, 1 << 32, count),
        "width": rng.integers(200, 900, count),
        "height": rng.integers(200, 900, count),
        "status": pa.array(["ok"]).take(pa.array(np.zeros(count, int))),
        "source": key,
        "id": pa.nulls(count, pa.string()),
    }
    table = pa.table(columns).cast(IMAGE_SCHEMA)
    uris = [f"/data/train-{n:06d}.tar" for n in range(-(-count // PER_SHARD))]
    shards = pa.table({"uri": uris, "bytes": [10**8] * len(uris), "sha256": ["0" * 64] * len(uris)})
    draft = Draft(place, Step("index", 1, {}))
    return draft.commit({IMAGES: draft.write_table(IMAGES, table), SHARDS: draft.write_table(SHARDS, shards)})


def main() -> None:
    """Write it in a first process, measure in a second."""
    place = Place(sys.argv[1])
    if len(sys.argv) > 2:
        import subprocess

        artifact = write(place, int(sys.argv[2]))
        subprocess.run(
            [sys.executable, "-m", "benchmarks.feeding.index_load", artifact.place.uri], check=True
        )
        return
    artifact = load(place)
    before = peak_bytes()
    began = time.perf_counter()
    table = ImageTable.from_artifact(artifact)
    seconds = time.perf_counter() - began
    assert len(table) > 0
    print(seconds, (peak_bytes() - before) / 1e6)


if __name__ == "__main__":
    main()
