"""How fast zip archives and Parquet files are indexed and read, against tars of the same pictures.

    python -m benchmarks.sources --json F [--quick]

CPU seconds, one thread, interleaved; a ratio is that of a format over tars. The same pictures, CIFAR-10 JPEGs
and ImageNet photographs of about 110 kB, as plain tars, as zips (stored, and deflated) and as Parquet
of Hugging Face's layout, row groups of 100 (not compressed, and snappy). Without ../shared/data, seeded ones.

(a) index: `Format.scan`, which reads, hashes and decodes everything once;
(b) random reads: `Reader.read` of batches of 256 (64 large) gids in a shuffled order, as training does; of
    row groups that are compressed, in the order of the file, as embedding does.

--quick takes 1 shard of CIFAR-10 and 1 of photographs. Without: 4 and 4.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.feeding import sets
from benchmarks.harness import Options, Report, Times, interleaved, options, ratio
from rayscan.data.reader import Reader
from rayscan.data.sources import named_format
from rayscan.data.sources.base import Scan, SourceFile
from rayscan.data.table import ImageTable

MAX_PIXELS = 10**9
GOAL = 1.2
ROW_GROUP = 100
CELL = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def main() -> None:
    """Measure and report."""
    asked = options(__doc__)
    report = Report(asked, "sources")
    times: dict[str, Times] = {}
    with tempfile.TemporaryDirectory() as name:
        for kind, batch in (("cifar10", 256), ("imagenet-sample", 64)):
            folder = Path(name) / kind
            folder.mkdir()
            uris, what = sets.shards(folder, kind, 1 if asked.quick else 4)
            report.detail(kind, what)
            times |= _measured(report, asked, folder, uris, kind.partition("-")[0], batch)
    report.finish(times)


def _measured(
    report: Report, asked: Options, folder: Path, uris: list[str], kind: str, batch: int
) -> dict[str, Times]:
    made = {name: write(folder, uris) for name, write in WRITERS.items()}
    times = interleaved({name: partial(scanned, files) for name, files in made.items()}, rounds=asked.rounds)
    others = [name for name in made if name != "tar"]
    tables = {name: sets.table_of(times[name].result) for name in made}
    for name in others:
        goal = ("<=", GOAL) if name in ("zip", "parquet") else None
        report.value(f"ratio_index_{kind}_{name}", ratio(times[name], times["tar"]), goal=goal)
    order = np.random.default_rng(0).permutation(len(tables["tar"]))
    rows = np.arange(len(order))
    reads: dict[str, Callable[[], None]] = {
        f"read_{name}": partial(read, tables[name], rows if name == "parquet_snappy" else order, batch)
        for name in made
    }
    times |= interleaved(reads, rounds=asked.rounds)
    for name in others:
        report.value(f"ratio_read_{kind}_{name}", ratio(times[f"read_{name}"], times["read_tar"]))
    return {f"{kind}_{name}": value for name, value in times.items()}


def scanned(uris: list[str]) -> list[Scan]:
    """Index some files."""
    return [
        named_format(uri).scan(SourceFile(uri, Path(uri).name, 0, 0), max_pixels=MAX_PIXELS) for uri in uris
    ]


def read(table: ImageTable, gids: np.ndarray, batch: int) -> None:
    """Read all images once, with their checksums."""
    reader = Reader(table)
    for start in range(0, len(gids), batch):
        reader.read(gids[start : start + batch])


def _images(uri: str) -> list[tuple[str, bytes]]:
    table = sets.table_of(scanned([uri]))
    return [(f"{n:06d}.jpg", data) for n, data in enumerate(Reader(table).read(np.arange(len(table))))]


def _tar(folder: Path, uris: list[str]) -> list[str]:
    paths = [folder / f"{number}.tar" for number in range(len(uris))]
    for path, uri in zip(paths, uris, strict=True):
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
            for member, data in _images(uri):
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return list(map(str, paths))


def _zip(method: int, name: str, folder: Path, uris: list[str]) -> list[str]:
    paths = [folder / f"{name}-{number}.zip" for number in range(len(uris))]
    for path, uri in zip(paths, uris, strict=True):
        with zipfile.ZipFile(path, "w", method) as archive:
            for member, data in _images(uri):
                archive.writestr(member, data)
    return list(map(str, paths))


def _parquet(compression: str, folder: Path, uris: list[str]) -> list[str]:
    paths = [folder / f"{compression}-{number}.parquet" for number in range(len(uris))]
    for path, uri in zip(paths, uris, strict=True):
        cells = [{"bytes": data, "path": member} for member, data in _images(uri)]
        table = pa.table({"image": pa.array(cells, CELL)})
        pq.write_table(table, path, compression=compression, row_group_size=ROW_GROUP)
    return list(map(str, paths))


WRITERS: dict[str, Callable[[Path, list[str]], list[str]]] = {
    "tar": _tar,
    "zip": partial(_zip, zipfile.ZIP_STORED, "stored"),
    "zip_deflated": partial(_zip, zipfile.ZIP_DEFLATED, "deflated"),
    "parquet": partial(_parquet, "none"),
    "parquet_snappy": partial(_parquet, "snappy"),
}


if __name__ == "__main__":
    main()
