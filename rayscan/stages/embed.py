"""Stage embed: every usable image -> one unit-length feature row, in gid order, in parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from rayscan.artifacts import Artifact, Draft, FileEntry, Step
from rayscan.config import Recipe
from rayscan.context import Context, Sources
from rayscan.data.loader import ViewLoader
from rayscan.data.table import ImageTable
from rayscan.engine.forward import forward
from rayscan.errors import DataError
from rayscan.sections import semantic
from rayscan.training import file_space
from rayscan.training.models import feature_net
from rayscan.training.pictures import images_of
from rayscan.types import Ints

NAME = "embed"
SCHEMA = 1
OTHERS = ("joined_components", "size_px")
"""Settings that other stages read: join and pretext."""


@dataclass(frozen=True)
class Part:
    """Rows [first, stop) of one view, to be embedded by one task."""

    recipe: Recipe
    index: Artifact
    pretext: Artifact
    draft: Draft
    view: int
    number: int
    first: int
    stop: int

    @property
    def name(self) -> str:
        """File name of the part; view 0 is the plain image."""
        return (
            f"part-{self.number:05d}.npy" if self.view == 0 else f"view{self.view}-part-{self.number:05d}.npy"
        )


def plan(recipe: Recipe, done: Mapping[str, Artifact], _sources: Sources) -> Step:
    """What this stage would do."""
    (space,) = recipe.spaces
    inputs = {"index": done["index"].identity, "pretext": done["pretext"].identity}
    if space.kind == "file":
        matched = {"dtype": recipe.embed.dtype, "key": recipe.features_key}
        return Step(NAME, SCHEMA, {"embed": matched}, inputs)
    images = images_of(recipe, done["pretext"])
    settings = {k: v for k, v in semantic(recipe.embed).items() if k not in OTHERS}
    config = {"embed": settings, "images": semantic(images)}
    if recipe.embed.num_views > 1:
        config |= {"views": recipe.scan.views, "seed": recipe.seed}
    return Step(NAME, SCHEMA, config, inputs)


def run(recipe: Recipe, done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
    """Embed all parts on the fleet; parts that an earlier attempt finished are taken over."""
    (space,) = recipe.spaces
    if space.kind == "file":
        return file_space.embed(recipe, space, done, step, context)
    draft = context.draft(step)
    table = ImageTable.from_artifact(done["index"])
    gids = table.gids(None)
    num_train = len(table.gids("train"))
    parts = [
        Part(recipe, done["index"], done["pretext"], draft, view, number, first, min(first + size, rows))
        for view in range(recipe.embed.num_views)
        for rows in [len(gids) if view == 0 else num_train]
        for size in [recipe.embed.rows_per_part]
        for number, first in enumerate(range(0, rows, size))
    ]
    todo = [part for part in parts if draft.finished_part(part.name) is None]
    context.progress.start(NAME, sum(p.stop - p.first for p in todo), "images")
    context.fleet.map(
        embed_part,
        todo,
        uses_gpu=True,
        on_done=lambda i, _: context.progress.advance(todo[i].stop - todo[i].first),
    )
    files: dict[str, FileEntry] = {}
    dim = 0
    for part in parts:
        finished = draft.finished_part(part.name)
        assert finished is not None
        files |= finished[0]
        dim = finished[1]["dim"]
    plain = [p for p in parts if p.view == 0]
    shards = {
        "part": pa.array([p.number for p in plain], pa.int32()),
        "name": [p.name for p in plain],
        "first_row": pa.array([p.first for p in plain], pa.int64()),
        "rows": pa.array([p.stop - p.first for p in plain], pa.int64()),
    }
    files["parts.parquet"] = draft.write_table("parts.parquet", pa.table(shards))
    files["gids.npy"] = draft.write_array("gids.npy", gids)
    facts = {"rows": len(gids), "train_rows": num_train, "dim": dim, "num_views": recipe.embed.num_views}
    artifact = draft.commit(files, facts=facts)
    context.progress.finish(f"{len(gids):,} images x {dim}")
    return artifact


def embed_part(part: Part) -> None:
    """Embed one part and note it as finished."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net, loader, gids = _loaded(part.recipe, part.index, part.pretext, device)
    mine = gids[part.first : part.stop]

    def fetch(some: Ints) -> torch.Tensor:
        if part.view == 0:
            return loader.plain(some)
        return loader.views(some, part.recipe.scan.views, 0, views=(part.view,))[0]

    settings = part.recipe.embed
    rows = forward(net, fetch, mine, batch_size=settings.batch_size, device=device)
    if not bool(torch.isfinite(rows).all()):
        bad = int(mine[int((~torch.isfinite(rows).all(1)).nonzero()[0])])
        raise DataError(
            "an image has features that are not finite",
            expected="finite numbers",
            got="nan or inf",
            where=f"gid {bad}",
            fix="look at the pretext loss; train with precision fp32",
        )
    unit = nn.functional.normalize(rows, dim=1).numpy().astype(np.dtype(settings.dtype))
    entry = part.draft.write_array(part.name, unit)
    part.draft.finish_part(part.name, {part.name: entry}, {"dim": unit.shape[1]})


@lru_cache(maxsize=1)
def _loaded(
    recipe: Recipe, index: Artifact, pretext: Artifact, device: str
) -> tuple[nn.Module, ViewLoader, Ints]:
    """Net and loader of this process, made once for all its parts."""
    table = ImageTable.from_artifact(index)
    net, _ = feature_net(recipe, pretext, trains=False)
    loader = ViewLoader(table, images_of(recipe, pretext), recipe.seed, device=device)
    # Gids of all usable images: view v > 0 covers the train split, which comes first in them.
    return net.eval().to(device), loader, table.gids(None)
