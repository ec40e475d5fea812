"""Stage names: assignments and the words that come with images -> names proposed for clusters.

Words are those of text columns of the metadata (captions, tags, lists) and of the folders in keys; never
labels, which no index holds. Only proposals come of them: a person takes one on the report page, or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rayscan.artifacts import Artifact, Step
from rayscan.assignments import FILE, WASTE
from rayscan.config import Recipe
from rayscan.context import Context, Sources
from rayscan.data.metadata import METADATA, metadata_of
from rayscan.naming.stored import NAMES, PROPOSED
from rayscan.naming.words import words_of
from rayscan.tables import row_groups

NAME = NAMES
SCHEMA = 1
MAX_IMAGES = 200_000
"""Images whose words are read, evenly spread over all."""
BETWEEN = ""
"""Stands between two texts, so that no term spans both."""


def available(index: Artifact) -> bool:
    """Whether images may come with words: metadata, or folders in the first keys."""
    if METADATA in index.files:
        return True
    first = next(row_groups(index, "images.parquet", ["key"]), None)
    return first is not None and bool(pc.any(pc.match_substring(first["key"], "/")).as_py())


def plan(_recipe: Recipe, done: Mapping[str, Artifact], _sources: Sources) -> Step:
    """What this stage would do; the index enters with its metadata, not its content alone."""
    config = {"index": done["index"].manifest["fingerprint"]}
    return Step(NAME, SCHEMA, config, {"assign": done["assign"].identity})


def run(_recipe: Recipe, done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
    """Propose names."""
    from rayscan.naming.proposals import propose  # scikit-learn and scipy.stats, only where there are words

    assigned = done["assign"].read_table(FILE, columns=["gid", "key", "cluster"])
    chosen = np.unique(np.linspace(0, len(assigned) - 1, min(len(assigned), MAX_IMAGES)).astype(np.int64))
    assigned = assigned.take(pa.array(chosen))
    words = list(_words(assigned, metadata_of(done["index"])))
    names = propose(words, assigned["cluster"].to_numpy().astype(np.int64))
    names.pop(WASTE, None)
    draft = context.draft(step)
    proposed = {str(number): listed for number, listed in sorted(names.items())}
    artifact = draft.commit({PROPOSED: draft.write_json(PROPOSED, proposed)}, facts={"named": len(names)})
    context.progress.say(f"  {NAME}: proposed for {len(names):,} clusters")
    return artifact


def _words(assigned: pa.Table, told: pa.Table | None) -> Iterator[list[str]]:
    """Words of each image: of its texts in the metadata, then of the folders in its key."""
    texts = [] if told is None else list(_texts(assigned, told))
    for at, key in enumerate(assigned["key"].to_pylist()):
        words: list[str] = []
        for text in (*(column[at] for column in texts), *key.split("/")[:-1]):
            words += [BETWEEN, *words_of(text)] if text else []
        yield words


def _texts(assigned: pa.Table, told: pa.Table) -> Iterator[list[str | None]]:
    """Columns of text, in the order of the images."""
    rows = pc.index_in(assigned["gid"], told["gid"])
    for field in told.schema:
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            yield told[field.name].take(rows).to_pylist()
