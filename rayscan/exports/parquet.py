"""Export as Parquet: the assignments with the names that clusters have now, row group by row group."""

from __future__ import annotations

from typing import IO

import pyarrow.parquet as pq

from rayscan.assignments import SCHEMA
from rayscan.exports.described import described
from rayscan.exports.rows import named_rows
from rayscan.exports.whole_file import write_whole
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

    def produce(sink: IO[bytes]) -> int:
        count, writer = 0, None
        for rows in described(run, named_rows(run, SCHEMA.names)):
            writer = writer or pq.ParquetWriter(sink, rows.schema, compression="zstd")
            writer.write_table(rows)
            count += len(rows)
        assert writer is not None  # a run has images
        writer.close()
        return count

    return write_whole(out, produce)
