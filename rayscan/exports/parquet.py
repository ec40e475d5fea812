"""Export as Parquet: the assignments with the names that clusters have now, row group by row group."""

from __future__ import annotations

from functools import partial

import pyarrow.parquet as pq

from rayscan.exports.described import described
from rayscan.exports.rows import columns_of, named_rows
from rayscan.exports.whole_file import write_tables_whole
from rayscan.run import Run


def export_parquet(run: Run, out: str) -> str:
    """Every column of the assignments, the cluster's name, and metadata of the images, as Parquet.

    Args:
        run: A run with assignments.
        out: The file.

    Returns:
        A line that says how many rows were written.

    Raises:
        ArtifactError: the run has no assignments, or clusters.json lacks one of the clusters.
    """
    tables = described(run, named_rows(run, columns_of(run)))
    return write_tables_whole(out, tables, partial(pq.ParquetWriter, compression="zstd"))
