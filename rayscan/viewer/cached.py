"""The file that the viewer shows, kept in the run: made again when clusters, names or neighbors change."""

from __future__ import annotations

import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq

from rayscan.assignments import CLUSTERS
from rayscan.exports.atlas import export_atlas
from rayscan.run import Run
from rayscan.storage import resolve
from rayscan.version import __version__

FOLDER = "view"
READS = ("index", "embed", "mine", "assign")
"""Stages whose results the file is made of, as far as a run has them."""
SCHEMA = 1
"""Raised when the same results give another file."""


def read_map(run: Run) -> pa.Table:
    """The rows of `exports.atlas`, in memory.

    Raises:
        ArtifactError: the run has no assignments, index or embeddings, or its place cannot be written.
        DataError: a picture cannot be read.
    """
    place, name = run.place.child(FOLDER), f"atlas-{_key(run)}.parquet"
    if place.size(name) is None:
        export_atlas(run, place.uri_of(name))
        for other in place.names():
            if other.startswith("atlas-") and other != name:
                place.delete(other)
    filesystem, path = resolve(place.uri_of(name))
    with filesystem.open_input_file(path) as source:
        return pq.ParquetFile(source).read(use_threads=False)


def _key(run: Run) -> str:
    """What the file depends on, as 12 hex digits."""
    made_of = {stage: run.artifact(stage).identity for stage in READS if stage in run.record["stages"]}
    names = run.place.read(CLUSTERS).decode()
    words = json.dumps([SCHEMA, __version__, made_of, names], sort_keys=True)
    return hashlib.sha256(words.encode()).hexdigest()[:12]
