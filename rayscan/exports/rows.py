"""The rows that every export begins with: images, their clusters, and the names that clusters have now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rayscan.assignments import FILE
from rayscan.errors import ArtifactError, DataError
from rayscan.run import Run
from rayscan.storage import is_local
from rayscan.tables import row_groups, schema_of
from rayscan.types import Ints
from rayscan.vectors.parts import EmbeddingRows

NAME_AFTER = "cluster"
"""The column that the name of the cluster follows."""


def named_rows(run: Run, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield the row groups of the assignments, with a column `name` after the cluster.

    Args:
        run: A run with assignments.
        columns: Of the assignments, `cluster` among them, in the order wanted.

    Raises:
        ArtifactError: the run has no assignments, or clusters.json lacks one of the clusters.
    """
    names = run.cluster_names
    numbers, called = pa.array(list(names), pa.int64()), pa.array(list(names.values()), pa.string())
    for group in row_groups(run.artifact("assign"), FILE, columns):
        rows = group.select(columns)
        clusters = rows.column(NAME_AFTER)
        if unknown := set(clusters.unique().to_pylist()) - names.keys():
            raise ArtifactError(
                "clusters.json does not name every cluster",
                expected="an entry for each cluster that has images",
                got=f"none for {', '.join(map(str, sorted(unknown)[:5]))}",
                where=run.place.uri_of("clusters.json"),
                fix="edit names only, or remove the file and run the same command again",
            )
        found = called.take(pc.index_in(clusters.cast(pa.int64()), numbers))
        yield rows.add_column(list(columns).index(NAME_AFTER) + 1, "name", found)


def columns_of(run: Run) -> list[str]:
    """Names of all columns that the assignments of a run have, in order.

    Raises:
        ArtifactError: the run has no assignments, or they cannot be read.
    """
    return list(schema_of(run.artifact("assign"), FILE).names)


def gids_and_clusters(run: Run) -> tuple[Ints, Ints]:
    """Images of a run in the order of its assignments [N], and the clusters that have some, rising [C]."""
    gids, used = [], np.empty(0, np.int64)
    for table in named_rows(run, ["gid", "cluster"]):
        gids.append(table["gid"].to_numpy())
        used = np.union1d(used, table["cluster"].to_numpy()).astype(np.int64)
    return np.concatenate(gids), used


def require_embeddings(rows: EmbeddingRows, gids: Ints) -> None:
    """Refuse images without a row.

    Raises:
        DataError: naming the first.
    """
    missing = gids[~np.isin(gids, rows.gids)]
    if len(missing):
        raise DataError(
            "images have no embedding",
            expected="a row for each",
            got=f"none for {len(missing):,}, such as gid {missing[0]}",
            where=rows.artifact.place.uri,
        )


def named_images(run: Run, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield one image after the other, as a dictionary of `columns` and `name`."""
    for group in named_rows(run, columns):
        yield from group.to_pylist()


def class_names(run: Run) -> list[str]:
    """Names of the clusters, each once: clusters of one name are one class; waste comes last."""
    names = run.cluster_names
    return list(dict.fromkeys(names[number] for number in sorted(names, key=lambda n: (n < 0, n))))


def require_files(image: dict[str, Any], what: str) -> str:
    """The path of an image that is a local file of its own.

    Raises:
        DataError: it lies in a shard, in an embedding alone, or on another machine.
    """
    source = image["source"]
    if not source or not is_local(source) or "#" in source.rpartition("/")[2]:
        raise DataError(
            f"{what} needs images that are files on this machine",
            expected="a run on a folder, or a list of local files",
            got=source or f"image {image['key']} of a shard",
            where="OUT",
            fix="export csv or parquet, or run on the unpacked folder",
        )
    return str(source)
