"""The signatures of the train images, written once for an index: an artifact between index and duplicates.

Rows of SIDE * SIDE grey levels in float16, which holds them exactly, in the layout of embeddings, so that
`EmbeddingRows` reads any of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from rayscan.artifacts import Artifact, Draft, FileEntry, Step, find
from rayscan.config import ImagesConfig
from rayscan.context import Context
from rayscan.data.cached_files import cache_for
from rayscan.data.decode import Pixels
from rayscan.data.reader import Reader
from rayscan.data.table import ImageTable
from rayscan.duplicates.signatures import LEAST_PX, SIDE, signature
from rayscan.types import Ints
from rayscan.vectors.part_list import write_part_list

NAME = "signatures"
SCHEMA = 1
ROWS_PER_PART = 8192
IMAGES_AT_ONCE = 256
"""Files in memory at a time."""


@dataclass(frozen=True)
class Part:
    """Rows [first, stop) of the train images, for one worker."""

    index: Artifact
    images: ImagesConfig
    draft: Draft
    number: int
    first: int
    stop: int

    @property
    def name(self) -> str:
        """File name of the part."""
        return f"part-{self.number:05d}.npy"


def find_or_write(index: Artifact, gids: Ints, images: ImagesConfig, context: Context) -> Artifact:
    """The signatures of an index, those of an earlier run if they are there.

    Args:
        index: Result of stage index.
        gids: Its train images.
        images: How they are decoded.
        context: Of the run.

    Raises:
        DataError: an image cannot be read any more.
    """
    step = Step(NAME, SCHEMA, {"side": SIDE, "least_px": LEAST_PX}, {"index": index.identity})
    if (found := find(context.out.child(step.directory), step)) is not None:
        return found
    draft = context.draft(step)
    parts = [
        Part(index, images, draft, number, first, min(first + ROWS_PER_PART, len(gids)))
        for number, first in enumerate(range(0, len(gids), ROWS_PER_PART))
    ]
    todo = [part for part in parts if draft.finished_part(part.name) is None]
    context.progress.start("duplicates: pictures", sum(p.stop - p.first for p in todo), "images")
    context.fleet.map(
        write_part, todo, on_done=lambda i, _: context.progress.advance(todo[i].stop - todo[i].first)
    )
    files: dict[str, FileEntry] = {}
    for part in parts:
        finished = draft.finished_part(part.name)
        assert finished is not None
        files |= finished[0]
    files |= write_part_list(draft, parts, gids)
    return draft.commit(files, facts={"rows": len(gids), "train_rows": len(gids), "dim": SIDE * SIDE})


def write_part(part: Part) -> None:
    """Read, decode and shrink the images of one part."""
    reader, gids = _opened(part.index, part.images)
    rows = np.empty((part.stop - part.first, SIDE, SIDE), np.float16)
    for begin in range(part.first, part.stop, IMAGES_AT_ONCE):
        some = gids[begin : min(begin + IMAGES_AT_ONCE, part.stop)]
        here = rows[begin - part.first : begin - part.first + len(some)]

        def use(number: int, pixels: Pixels, here: np.ndarray = here) -> None:
            here[number] = signature(pixels)

        reader.each(some, use, threads=part.images.decode_threads, min_px=LEAST_PX)
    entry = part.draft.write_array(part.name, rows.reshape(len(rows), -1))
    part.draft.finish_part(part.name, {part.name: entry})


@lru_cache(maxsize=1)
def _opened(index: Artifact, images: ImagesConfig) -> tuple[Reader, np.ndarray]:
    """Reader and train gids of this process, made once for all its parts."""
    table = ImageTable.from_artifact(index)
    return Reader(table, cache_for(table, images)), table.gids("train")
