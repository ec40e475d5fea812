"""Stages that stand in for index and mine where labels decide what is used; experiments put them there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from rayscan import pipeline
from rayscan.artifacts import Artifact, Step
from rayscan.config import Recipe
from rayscan.context import Context, Sources
from rayscan.data.identity import content_identity
from rayscan.data.table import IMAGES
from rayscan.experiments.base import Selection
from rayscan.experiments.selection import left_out, pure_neighbors
from rayscan.stages import mine
from rayscan.stages.labels import Classes
from rayscan.tables import as_lists, as_rows
from rayscan.vectors.neighbor_table import CHOSEN

LEFT_OUT = "left out"
"""Status of an image that an experiment does not use."""


@dataclass(frozen=True)
class SelectedIndex:
    """The index with some images left out; the rows, and so the gids, stay."""

    whole: Artifact
    classes: Classes
    selection: Selection
    NAME: str = "index"

    def plan(self, recipe: Recipe, _done: Mapping[str, Artifact], _sources: Sources) -> Step:
        """The step it would do."""
        config = {"selection": self.selection, "seed": recipe.seed, "classes": len(self.classes.names)}
        return Step(self.NAME, 1, config, {"index": self.whole.identity})

    def run(self, recipe: Recipe, _done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
        """Write it."""
        draft, table = context.draft(step), self.whole.read_table(IMAGES)
        gids = np.flatnonzero(self.classes.of[: len(table)] >= 0)
        splits = np.asarray(table["split"].to_pylist())
        num_classes = len(self.classes.names)
        gone = left_out(
            self.selection, gids, self.classes.of[gids], splits[gids] == "eval", num_classes, recipe.seed
        )
        status = np.asarray(table["status"].to_pylist(), dtype=object)
        status[gone] = LEFT_OUT
        place = table.schema.get_field_index("status")
        table = table.set_column(place, table.schema.field(place), pa.array(status, pa.string()))
        files = {n: draft.write(n, self.whole.read(n)) for n in self.whole.files if n != IMAGES}
        files[IMAGES] = draft.write_table(IMAGES, table)
        counts = {s: int(np.sum((splits == s) & (status == "ok"))) for s in ("train", "eval")}
        facts: dict[str, Any] = {**self.whole.facts, **counts, LEFT_OUT: len(gone)}
        context.progress.say(f"  index: {len(gone):,} images left out ({self.selection})")
        return draft.commit(files, facts=facts, identity=content_identity(table))


@dataclass(frozen=True)
class PureMine:
    """Mined neighbors without those of another class (SCAN Fig. 8)."""

    classes: Classes
    NAME: str = "mine"

    def plan(self, recipe: Recipe, done: Mapping[str, Artifact], sources: Sources) -> Step:
        """The step it would do."""
        mined = mine.plan(recipe, done, sources)
        config = {**mined.config, "pure": True, "classes": len(self.classes.names)}
        return Step(self.NAME, mined.schema, config, mined.inputs)

    def run(self, recipe: Recipe, done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
        """Mine, or take over what was mined, and filter."""
        mined, _ = pipeline.do(mine, recipe, done, context)
        table = mined.read_table("neighbors.parquet")
        gids = table["gid"].to_numpy()
        ids, scores = as_rows(table["ids"]), as_rows(table["scores"])
        chosen = as_rows(table[CHOSEN]) if CHOSEN in table.column_names else None
        pure, columns = pure_neighbors(gids, ids, self.classes.of, chosen)
        near = np.take_along_axis(scores, np.maximum(columns, 0), axis=1)
        kept = np.where(columns >= 0, near, np.float32(1))
        made = {
            "gid": pa.array(gids, pa.int64()),
            "ids": as_lists(pure.astype(np.int64)),
            "scores": as_lists(kept.astype(np.float32)),
        }
        draft = context.draft(step)
        files = {"neighbors.parquet": draft.write_table("neighbors.parquet", pa.table(made))}
        return draft.commit(files, facts={k: v for k, v in mined.facts.items() if k != CHOSEN})
