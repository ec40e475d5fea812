"""The embeddings in their whitened space, as rows that can be mined: an artifact between embed and mine.

Written part by part as embed writes its own, train and eval: unit rows, float32 [rows, 64].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rayscan.artifacts import Artifact, Draft, FileEntry, Step, find
from rayscan.consensus.neighbors import unit_rows
from rayscan.context import Context
from rayscan.training.whitened import MAX_ROWS, sampled_space
from rayscan.vectors.parts import EmbeddingRows

NAME = "whitened"
SCHEMA = 1


@dataclass(frozen=True)
class Task:
    """The work, for one worker."""

    embed: Artifact
    draft: Draft


def plan(embed: Artifact) -> Step:
    """What would be written."""
    return Step(NAME, SCHEMA, {"max_rows": MAX_ROWS}, {"embed": embed.identity})


def find_or_write(embed: Artifact, context: Context) -> Artifact:
    """The whitened rows of these embeddings, those of an earlier run if they are there."""
    step = plan(embed)
    if (found := find(context.out.child(step.directory), step)) is not None:
        return found
    context.progress.say("  mine: whitening")
    return context.fleet.map(write, [Task(embed, context.draft(step))])[0]


def write(task: Task) -> Artifact:
    """Whiten and write all rows, one part at a time; runs on a worker."""
    rows, draft = EmbeddingRows(task.embed), task.draft
    space = sampled_space(task.embed).space
    projection = space.components @ space.projection
    table = task.embed.read_table("parts.parquet")
    files: dict[str, FileEntry] = {}
    for name, first, count in zip(
        *(table[c].to_pylist() for c in ("name", "first_row", "rows")), strict=True
    ):
        units = unit_rows(rows.read(first, first + count))
        part = unit_rows(np.asarray((units - space.mean) @ projection, np.float32))
        files[name] = draft.write_array(name, part)
    files["gids.npy"] = draft.write_array("gids.npy", task.embed.read_array("gids.npy"))
    files["parts.parquet"] = draft.write_table("parts.parquet", table)
    facts: dict[str, Any] = {k: task.embed.facts[k] for k in ("rows", "train_rows")}
    return draft.commit(files, facts=facts | {"dim": projection.shape[1], "num_views": 1})
