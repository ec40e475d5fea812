"""Export as a data set of the Hugging Face hub: Parquet with pictures inside, and a card.

OUT/
  README.md                            the card: which files are which split
  data/train-00000-of-00003.parquet    image struct<bytes, path>, cluster as ClassLabel, everything else known

`datasets.load_dataset("OUT")` reads it without a network; `hf upload` puts it on the hub. Nothing here does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rayscan.errors import DataError
from rayscan.exports.described import described
from rayscan.exports.pictures import Pictures, as_images, file_name
from rayscan.exports.rows import class_names, columns_of, named_rows
from rayscan.exports.whole_folder import whole_folder
from rayscan.run import Run

SHARD_BYTES = 400_000_000
"""Bytes of pictures after which a file ends."""
IMAGE, NUMBER = OWN = ("image", "cluster_number")
"""Columns of this format alone: pictures, and numbers of clusters, as `cluster` has their classes."""


def export_huggingface(run: Run, out: str) -> str:
    """Pictures and clusters as a data set that `datasets` loads: Parquet files and a card.

    Args:
        run: A run with assignments and pictures.
        out: The folder.

    Returns:
        A line that says how many images were written.

    Raises:
        ArtifactError: the run has no assignments or index, or clusters.json lacks one of the clusters.
        DataError: a picture cannot be read, or there are none.
    """
    pictures, names = Pictures(run), class_names(run)
    facts: dict[str, object] = {"assign": run.artifact("assign").identity}
    with whole_folder(out, "huggingface", facts) as folder:
        counts: dict[str, int] = {}
        with _Shards(folder / "data") as shards:
            for table in _tables(run, pictures, names):
                for split in table["split"].unique().to_pylist():
                    rows = table.filter(pc.equal(table["split"], split))
                    shards.write(split, rows)
                    counts[split] = counts.get(split, 0) + len(rows)
        total = sum(counts.values())
        if pictures.missed == total:
            raise DataError(
                "the run has no pictures",
                expected="images, or embeddings with addresses of images",
                got=f"{total:,} rows without a picture that can be read",
                where=run.place.uri,
                fix="export parquet: the same rows without pictures",
            )
        (folder / "README.md").write_text(_card(run, counts, names), encoding="utf-8")
        facts["rows"] = total
    missed = f", {pictures.missed:,} of them without a picture" if pictures.missed else ""
    return f"{total:,} images{missed}: {out}"


def _tables(run: Run, pictures: Pictures, names: list[str]) -> Iterator[pa.Table]:
    """Rows with their pictures and classes, as many at a time as memory should hold."""
    class_of = {name: number for number, name in enumerate(names)}
    schema: pa.Schema | None = None
    for rows in pictures.pieces(described(run, named_rows(run, columns_of(run)), OWN)):
        data = pictures.encoded(rows)
        paths = [
            file_name(key, source, one or b"")
            for key, source, one in zip(
                rows["key"].to_pylist(), rows["source"].to_pylist(), data, strict=True
            )
        ]
        classes = pa.array([class_of[name] for name in rows["name"].to_pylist()], pa.int64())
        at = rows.column_names.index("cluster")
        numbered = rows.rename_columns([NUMBER if n == "cluster" else n for n in rows.column_names])
        table = numbered.add_column(at, "cluster", classes).add_column(0, IMAGE, as_images(data, paths))
        schema = schema or _schema(table.schema, names)
        yield table.cast(schema)


def _schema(schema: pa.Schema, names: list[str]) -> pa.Schema:
    """The schema with what `datasets` must know of two columns; others follow from their types."""
    features = {
        IMAGE: {"_type": "Image"},
        "cluster": {"names": names, "_type": "ClassLabel"},
    }
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


class _Shards:
    """Parquet files of each split, which get their names when their number is known."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, list[Path]] = {}
        self._writer: pq.ParquetWriter | None = None
        self._open_for, self._bytes = "", 0

    def __enter__(self) -> _Shards:
        self._folder.mkdir()
        return self

    def write(self, split: str, rows: pa.Table) -> None:
        """Append rows: a row group."""
        if self._writer is None or split != self._open_for or self._bytes >= SHARD_BYTES:
            self._end()
            files = self._files.setdefault(split, [])
            files.append(self._folder / f"{split}-{len(files):05d}.parquet")
            self._writer = pq.ParquetWriter(files[-1], rows.schema)
            self._open_for, self._bytes = split, 0
        self._writer.write_table(rows)
        self._bytes += rows.nbytes

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._end()
        if kind is None:
            for files in self._files.values():
                for file in files:
                    file.rename(file.with_stem(f"{file.stem}-of-{len(files):05d}"))

    def _end(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None


def _card(run: Run, counts: dict[str, int], names: list[str]) -> str:
    """The card: YAML for programs, some lines for people."""
    files = "".join(f'  - split: {split}\n    path: "data/{split}-*.parquet"\n' for split in counts)
    told = ", ".join(f"{count:,} in {split}" for split, count in counts.items())
    recipe = run.recipe
    listed = "".join(f"- {json.dumps(name, ensure_ascii=False)}\n" for name in names)
    configs = f"configs:\n- config_name: default\n  data_files:\n{files}"
    return (
        f"---\ntask_categories:\n- image-classification\n{configs}---\n\n# Clusters by rayscan\n\n{told}. "
        f"`cluster` was found without labels by method {recipe.method} on features "
        f"{', '.join(recipe.features)}: it is no annotation by people. `confidence` is the probability of "
        "the cluster, `margin` its distance to the second; pictures are the original files.\n\n"
        f"Classes:\n\n{listed}"
    )
