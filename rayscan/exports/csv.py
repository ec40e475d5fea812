"""Export as CSV: RFC 4180 in UTF-8, a row per image.

Text is quoted, so that names may hold commas, quotes and line breaks; a missing value is an empty cell
without quotes. Lines end in CR LF.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap

import pyarrow as pa
import pyarrow.csv as pacsv

from rayscan.assignments import FILE
from rayscan.errors import ArtifactError
from rayscan.run import Run
from rayscan.storage import split_uri
from rayscan.tables import row_groups

COLUMNS = ("gid", "id", "source", "key", "split", "cluster", "confidence", "margin", "is_prototype")
NAME_AFTER = "cluster"
"""The column that the name of the cluster follows."""


def export_csv(run: Run, out: str) -> str:
    """A row per image: where it came from, its cluster and the cluster's name, how sure that is.

    Rows are written one row group at a time to a temporary file, which is then put to its address as a whole.

    Args:
        run: A run with assignments.
        out: The file.

    Returns:
        A line that says how many rows were written.

    Raises:
        ArtifactError: the run has no assignments, or clusters.json lacks one of the clusters.
    """
    place, name = split_uri(out)
    count = 0
    with tempfile.TemporaryFile() as spool:
        writer: pacsv.CSVWriter | None = None
        for rows in _named_rows(run):
            writer = writer or _writer(spool, rows.schema)
            writer.write_table(rows)
            count += len(rows)
        assert writer is not None  # a run has images
        writer.close()
        spool.flush()
        with mmap(spool.fileno(), 0, access=ACCESS_READ) as whole, memoryview(whole) as data:
            place.write(name, data)
    return f"{count:,} rows: {place.uri_of(name)}"


def _writer(sink: object, schema: pa.Schema) -> pacsv.CSVWriter:
    options = pacsv.WriteOptions(eol="\r\n", quoting_style="needed", quoting_header="none")
    return pacsv.CSVWriter(sink, schema, write_options=options)


def _named_rows(run: Run) -> Iterator[pa.Table]:
    """Yield the row groups of the assignments, with the names that clusters have now."""
    names = run.cluster_names
    table_of_names = pa.array(
        [names.get(number) for number in range(max(names, default=-1) + 1)], pa.string()
    )
    for group in row_groups(run.artifact("assign"), FILE, COLUMNS):
        rows = group.select(COLUMNS)
        clusters = rows.column(NAME_AFTER)
        if unknown := set(clusters.unique().to_pylist()) - names.keys():
            raise ArtifactError(
                "clusters.json does not name every cluster",
                expected="an entry for each cluster that has images",
                got=f"none for {', '.join(map(str, sorted(unknown)[:5]))}",
                where=run.place.uri_of("clusters.json"),
                fix="edit names only, or remove the file and run the same command again",
            )
        yield rows.add_column(COLUMNS.index(NAME_AFTER) + 1, "name", table_of_names.take(clusters))
