"""A table as the bytes of a Parquet file; for tables larger than memory see `tables`."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP = 131_072
"""Rows of a row group, however the tables come, so that equal tables give equal bytes."""


def encoded(table: pa.Table) -> memoryview:
    """Bytes with one codec and fixed row groups: equal tables give equal bytes, by one version of Arrow."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=ROW_GROUP)
    return memoryview(sink.getvalue())
