"""Export for Embedding Atlas: one Parquet file with a map, neighbors and small pictures.

Its conventions: x and y; neighbors struct<ids, distances>, where ids are numbers of rows in the file, and
pictures struct<bytes, path>. They follow every column of the assignments and the metadata of the images.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rayscan.exports.described import described
from rayscan.exports.graph import Graph, blocks, components, neighbor_graph
from rayscan.exports.map_layout import Places, map_layout
from rayscan.exports.pictures import Pictures, as_images, file_name
from rayscan.exports.rows import columns_of, gids_and_clusters, named_rows, require_embeddings
from rayscan.exports.whole_file import write_tables_whole
from rayscan.run import Run
from rayscan.training.space_rows import rows_of
from rayscan.types import Ints
from rayscan.vectors.parts import EmbeddingRows

OWN = X, Y, NEIGHBORS, TEXT, IMAGE = ("x", "y", "neighbors", "text", "image")
"""Columns of this format alone."""
THUMBNAIL_PX, SMALL_PX = 128, 64
"""Longer side of a picture, px."""
MANY = 200_000
"""Images from which on pictures are small: the viewer holds all of them in memory."""
OPTIONS = f"--x {X} --y {Y} --neighbors {NEIGHBORS} --text {TEXT}"


@dataclass(frozen=True)
class Map:
    """Where the images of a run lie, and their neighbors, in the order of the assignments."""

    gids: Ints
    """[N]."""
    places: Places
    """[N, 2]."""
    graph: Graph


def export_atlas(run: Run, out: str) -> str:
    """A map with pictures and neighbors for Embedding Atlas, as `rayscan view` shows it.

    Args:
        run: A run with assignments and embeddings.
        out: The file.

    Returns:
        Lines that say how many images were written and how to open them.

    Raises:
        ArtifactError: the run has no assignments, index or embeddings, or they cannot be read.
        DataError: an image has no embedding, or its picture cannot be read.
    """
    pictures = Pictures(run)
    told = write_tables_whole(
        out, atlas_tables(run, map_of(run), pictures), partial(pq.ParquetWriter, compression="zstd")
    )
    image = f" --image {IMAGE}" if pictures.seen else ""
    missed = f"\n{pictures.missed:,} images without a picture" if pictures.missed else ""
    return f"{told}{missed}\nopen it: embedding-atlas {shlex.quote(out)} {OPTIONS}{image}"


def map_of(run: Run) -> Map:
    """Lay out the images of a run.

    Raises:
        ArtifactError: the run has no embeddings.
        DataError: an image has none.
    """
    rows, (gids, _) = EmbeddingRows(run.artifact("embed")), gids_and_clusters(run)
    require_embeddings(rows, gids)
    graph = neighbor_graph(run, rows, gids)
    at = rows_of(rows, gids)
    if len(gids) < 2:
        return Map(gids, np.zeros((len(gids), 2), np.float32), graph)
    pca = components(rows, at, 2)
    start = np.zeros((len(gids), 2), np.float32)
    for some in blocks(len(gids)):
        projected = pca.project(rows.take(at[some]))
        start[some, : projected.shape[1]] = projected
    return Map(gids, map_layout(graph, start, run.recipe.seed), graph)


def atlas_tables(run: Run, made: Map, pictures: Pictures) -> Iterator[pa.Table]:
    """Rows of the file, as many at a time as memory should hold pictures."""
    longest, first = SMALL_PX if len(made.gids) > MANY else THUMBNAIL_PX, 0
    for rows in pictures.pieces(described(run, named_rows(run, columns_of(run)), OWN)):
        here = slice(first, first + len(rows))
        first = here.stop
        keys, sources = rows["key"].to_pylist(), rows["source"].to_pylist()
        data = pictures.thumbnails(rows, longest)
        paths = [file_name(key, source, b"") for key, source in zip(keys, sources, strict=True)]
        texts = [
            f"{name}: {source or key}"
            for name, source, key in zip(rows["name"].to_pylist(), sources, keys, strict=True)
        ]
        own = {
            X: pa.array(made.places[here, 0]),
            Y: pa.array(made.places[here, 1]),
            NEIGHBORS: _neighbors(made.graph, here),
            TEXT: pa.array(texts, pa.string()),
            IMAGE: as_images(data, paths),
        }
        for name, column in own.items():
            rows = rows.append_column(name, column)
        yield rows


def _neighbors(graph: Graph, here: slice) -> pa.StructArray:
    is_there = np.isfinite(graph.distances[here])
    bounds = pa.array(np.append(0, np.cumsum(is_there.sum(axis=1))).astype(np.int32))
    ids, distances = graph.ids[here][is_there], graph.distances[here][is_there]
    lists = [pa.ListArray.from_arrays(bounds, pa.array(values)) for values in (ids, distances)]
    return pa.StructArray.from_arrays(lists, ["ids", "distances"])
