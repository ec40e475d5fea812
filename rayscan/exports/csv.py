"""Export as CSV: RFC 4180 in UTF-8, a row per image.

Text is quoted, so that names may hold commas, quotes and line breaks; a missing value is an empty cell
without quotes. Lines end in CR LF.
"""

from __future__ import annotations

from typing import IO

import pyarrow as pa
import pyarrow.csv as pacsv

from rayscan.assignments import MINED
from rayscan.exports.described import as_plain, described
from rayscan.exports.rows import columns_of, named_rows
from rayscan.exports.whole_file import write_tables_whole
from rayscan.run import Run

COLUMNS = ("gid", "id", "source", "key", "split", "cluster", "confidence", "margin", "is_prototype", *MINED)
"""Those that the run has; earlier versions wrote none of MINED."""


def export_csv(run: Run, out: str) -> str:
    """A row per image: where it came from, its cluster and the cluster's name, how sure that is, metadata.

    Args:
        run: A run with assignments.
        out: The file.

    Returns:
        A line that says how many rows were written.

    Raises:
        ArtifactError: the run has no assignments, or clusters.json lacks one of the clusters.
    """
    there = columns_of(run)
    rows = named_rows(run, [name for name in COLUMNS if name in there])
    return write_tables_whole(out, map(as_plain, described(run, rows)), _writer)


def _writer(sink: IO[bytes], schema: pa.Schema) -> pacsv.CSVWriter:
    options = pacsv.WriteOptions(eol="\r\n", quoting_style="needed", quoting_header="none")
    return pacsv.CSVWriter(sink, schema, write_options=options)
