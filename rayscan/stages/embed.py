"""Stage embed: every usable image -> one unit-length feature row, in gid order, in parts.

What an earlier embed at the same `--out` computed of the same bytes by the same net, engine and precision is
taken over: a row's bits depend on nothing else (`engine.inference.frozen`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn

from rayscan.artifacts import Artifact, Draft, FileEntry, Step
from rayscan.config import Recipe
from rayscan.context import Context, Sources
from rayscan.data.loader import ViewLoader
from rayscan.data.pictures import PictureLoader
from rayscan.data.table import ImageTable
from rayscan.engine.forward import forward
from rayscan.engine.inference.fast import fast_net
from rayscan.engine.inference.features import features
from rayscan.engine.inference.frozen import FrozenNet
from rayscan.errors import DataError
from rayscan.sections import semantic
from rayscan.training import file_space
from rayscan.training.former_features import FormerFeatures, former_features
from rayscan.training.models import feature_net
from rayscan.training.pictures import images_of, preprocessing_in
from rayscan.types import Ints
from rayscan.vectors.part_list import write_part_list

NAME = "embed"
SCHEMA = 1
PRETRAINED_ROWS = 4096
"""Rows of a part at most where the net is a pretrained one: a minute of a slow machine."""
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
    former: FormerFeatures | None = None
    """Features that an earlier run at this place made of some of these images."""

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
    settings = {k: v for k, v in semantic(recipe.embed).items() if k not in OTHERS}
    config: dict[str, Any] = {"embed": settings}
    if recipe.embed.num_views > 1 or preprocessing_in(done["pretext"]) is None:
        config["images"] = semantic(images_of(recipe, done["pretext"]))
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
    gids, num_train = table.gids(None), len(table.gids("train"))
    parts = _parts(recipe, done, draft, len(gids), num_train)
    if preprocessing_in(done["pretext"]) is not None:
        parts = _with_former(parts, former_features(context.out, step, done["index"], gids))
    todo = [part for part in parts if draft.finished_part(part.name) is None]
    context.progress.start(NAME, sum(p.stop - p.first for p in todo), "images")
    context.fleet.map(
        embed_part,
        todo,
        uses_gpu=True,
        on_done=lambda i, _: context.progress.advance(todo[i].stop - todo[i].first),
    )
    files, finished = _finished(parts)
    for note in sorted({told["note"] for told in finished if told.get("note")}):
        context.progress.say(f"  {NAME}: {note}")
    files |= write_part_list(draft, [p for p in parts if p.view == 0], gids)
    facts: dict[str, Any] = {
        "rows": len(gids),
        "train_rows": num_train,
        "dim": finished[-1]["dim"] if finished else 0,
        "num_views": recipe.embed.num_views,
    }
    if nets := {json.dumps(told["net"], sort_keys=True) for told in finished if told.get("net")}:
        facts["nets"] = [json.loads(told) for told in sorted(nets)]
    if reused := sum(part.former.count for part in parts if part.former is not None):
        facts["taken_over"] = reused
    artifact = draft.commit(files, facts=facts)
    told = f", {reused:,} of them taken over from an earlier result" if reused else ""
    context.progress.finish(f"{len(gids):,} images x {facts['dim']}{told}")
    return artifact


def _finished(parts: list[Part]) -> tuple[dict[str, FileEntry], list[dict[str, Any]]]:
    """Files of all parts, and what each told as it ended."""
    files: dict[str, FileEntry] = {}
    told = []
    for part in parts:
        finished = part.draft.finished_part(part.name)
        assert finished is not None
        files |= finished[0]
        told.append(finished[1])
    return files, told


def _with_former(parts: list[Part], former: FormerFeatures | None) -> list[Part]:
    """The parts of plain rows with what is known of each; further views are made anew."""
    if former is None:
        return parts
    return [part if part.view else replace(part, former=former.part(part.first, part.stop)) for part in parts]


def _parts(
    recipe: Recipe, done: Mapping[str, Artifact], draft: Draft, num_rows: int, num_train: int
) -> list[Part]:
    """All parts: the plain rows of every usable image, then each further view of the train images."""
    is_pretrained = preprocessing_in(done["pretext"]) is not None
    size = min(recipe.embed.rows_per_part, PRETRAINED_ROWS if is_pretrained else sys.maxsize)
    return [
        Part(recipe, done["index"], done["pretext"], draft, view, number, first, min(first + size, rows))
        for view in range(recipe.embed.num_views)
        for rows in [num_rows if view == 0 else num_train]
        for number, first in enumerate(range(0, rows, size))
    ]


def embed_part(part: Part) -> None:
    """Embed one part and note it as finished."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    wanted = preprocessing_in(part.pretext)
    told: dict[str, str] = {}
    note, known = "", None
    if wanted is None or part.view:
        rows = _by_views(part, device)
    else:
        net, pictures, gids = _frozen(part.recipe, part.index, part.pretext, device)
        told, mine = net.facts, gids[part.first : part.stop]
        known = None if part.former is None else part.former.made_by(told)
        todo = np.arange(len(mine)) if known is None else known.missing
        size = part.recipe.embed.batch_size
        rows = torch.empty((0, 1))
        if len(todo):
            rows = features(net, pictures.pictures, mine[todo], batch_size=size)
        note = net.note
    if not bool(torch.isfinite(rows).all()):
        bad = part.first + int((~torch.isfinite(rows).all(1)).nonzero()[0])
        raise DataError(
            "an image has features that are not finite",
            expected="finite numbers",
            got="nan or inf",
            where=f"row {bad} of the usable images",
            fix="look at the pretext loss; train with precision fp32",
        )
    unit = nn.functional.normalize(rows, dim=1).numpy().astype(np.dtype(part.recipe.embed.dtype))
    if known is not None:
        unit = known.filled(todo, unit)
    entry = part.draft.write_array(part.name, unit)
    part.draft.finish_part(part.name, {part.name: entry}, {"dim": unit.shape[1], "net": told, "note": note})


def _by_views(part: Part, device: str) -> torch.Tensor:
    """Features of the pictures as training sees them: plain, or an augmented view."""
    net, loader, gids = _loaded(part.recipe, part.index, part.pretext, device)

    def fetch(some: Ints) -> torch.Tensor:
        if part.view == 0:
            return loader.plain(some)
        return loader.views(some, part.recipe.scan.views, 0, views=(part.view,))[0]

    mine = gids[part.first : part.stop]
    return forward(net, fetch, mine, batch_size=part.recipe.embed.batch_size, device=device)


@lru_cache(maxsize=1)
def _frozen(
    recipe: Recipe, index: Artifact, pretext: Artifact, device: str
) -> tuple[FrozenNet, PictureLoader, Ints]:
    """A pretrained net on the engine that is fastest here, and the loader of its pictures."""
    table, wanted = ImageTable.from_artifact(index), preprocessing_in(pretext)
    assert wanted is not None
    net, _ = feature_net(recipe, pretext, trains=False)
    gids = table.gids(None)
    settings = recipe.embed
    fast = fast_net(
        net,
        wanted,
        num_rows=len(gids),
        device=device,
        batch_size=settings.batch_size,
        engine=settings.engine,
        precision=settings.precision,
    )
    return fast, PictureLoader(table, recipe.images, wanted, device), gids


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
