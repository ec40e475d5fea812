"""Estimates of what each stage costs: work, bytes, memory, and time where its rate is known.

For planning, no promises: the largest thing of each stage is counted, small ones are not.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from rayscan.config import Recipe
from rayscan.errors import ArtifactError
from rayscan.methods import METHODS
from rayscan.run import recorded_stages
from rayscan.sections import get
from rayscan.storage import Place, split_query

FLOAT = 4
"""Bytes of a float32."""
INDEX_ROW_BYTES, ASSIGN_ROW_BYTES = 120, 110
"""Measured bytes per image of the tables of index and assign."""
PROCESS_BYTES = 700_000_000
"""A worker that has loaded torch and done nothing yet."""


@dataclass(frozen=True)
class Cost:
    """The cost of one stage."""

    work: float
    """Images seen, over all epochs and views."""
    scale: str
    """What one unit of work is like; rates of other runs count only at the same scale."""
    storage: int | None = None
    """Bytes left on storage; None if unknown."""
    memory: int | None = None
    """Bytes of the largest process."""


@dataclass(frozen=True)
class StagePlan:
    """What a run would do with one stage, why, and what that would cost."""

    stage: str
    is_reused: bool
    why: str
    directory: str | None = None
    """None while its inputs are not there, so that its fingerprint is not known."""
    cost: Cost | None = None
    """None when the number of images is not known yet."""
    seconds: float | None = None
    """None when nothing like it was done before, here or in a neighbor of --out."""


def cost_of(stage: str, recipe: Recipe, num_train: int, num_all: int, dim: int | None) -> Cost | None:
    """Return the cost of a stage; None for one that is not worth planning.

    Args:
        stage: Its name.
        recipe: All settings.
        num_train: Usable images of the train split.
        num_all: Usable images.
        dim: D of the embeddings, if it is known yet.
    """
    net = _net(recipe)
    pictures = PROCESS_BYTES + _resident(recipe, num_train)
    row = None if dim is None else dim * (2 if recipe.embed.dtype == "float16" else 4)
    embedded = num_all + num_train * (recipe.embed.num_views - 1)
    cached = None if row is None else PROCESS_BYTES + embedded * row
    if (epochs := METHODS[recipe.method].epochs.get(stage)) is not None:
        section, inputs = get(recipe, stage), get(recipe, f"{stage}.inputs")
        backbone = getattr(section, "backbone", None) or recipe.pretext.backbone
        is_cached = inputs == "embeddings"
        scale = f"heads on D {dim}" if is_cached else f"{backbone} at {recipe.images.size_px} px"
        return Cost(num_train * get(recipe, epochs[inputs]), scale, None, cached if is_cached else pictures)
    shards, k = recipe.mine.num_shards or recipe.fleet.num_workers or 1, recipe.mine.num_neighbors
    fitted = min(num_train, recipe.consensus.max_rows)
    held = None if dim is None else PROCESS_BYTES + 6 * fitted * dim * FLOAT
    costs: dict[str, Cost] = {
        "index": Cost(num_all, "headers", num_all * INDEX_ROW_BYTES, PROCESS_BYTES),
        "pretext": Cost(num_train * _whole_epochs(recipe), net, None, pictures),
        "embed": Cost(embedded, net, None if row is None else embedded * row, PROCESS_BYTES),
        "mine": Cost(
            float(num_train) * num_train,
            f"D {dim}",
            num_train * (k * 12 + 8),
            None if dim is None else PROCESS_BYTES + 2 * num_train * dim * FLOAT // shards,
        ),
        "howmany": Cost(fitted, f"howmany on D {dim}", None, held),
        "consensus": Cost(
            fitted,
            f"consensus on D {dim}, C {recipe.num_clusters}",
            None,
            held,
        ),
        "assign": Cost(num_all, net, num_all * ASSIGN_ROW_BYTES, PROCESS_BYTES),
        "baseline": Cost(num_all, f"D {dim}", None, cached),
        "evaluate": Cost(num_all, f"D {dim}", None, PROCESS_BYTES),
    }
    if stage == "pretext" and recipe.spaces[0].kind != "own":
        return None  # nothing is trained
    return costs.get(stage)


def _whole_epochs(recipe: Recipe) -> float:
    """Return the epochs of the pretext, those on smaller views by their share of the pixels."""
    return recipe.pretext.epochs * recipe.pretext.pixel_share(recipe.images.size_px)


def _net(recipe: Recipe) -> str:
    """What computes the features, and at which side."""
    space = recipe.spaces[0]
    if space.kind == "pretrained":
        return f"{space.target} at {recipe.embed.size_px or 'its'} px"
    return "file" if space.kind == "file" else f"{recipe.pretext.backbone} at {recipe.images.size_px} px"


def _resident(recipe: Recipe, num_images: int) -> int:
    """Return the bytes of decoded pictures that a worker keeps in memory."""
    side = recipe.images.canvas_px
    whole = 0 if side is None else num_images * side * side * 3
    return whole if whole <= recipe.images.resident_bytes else 0


def cost_record(cost: Cost | None, seconds: float) -> dict[str, Any]:
    """Return what a run's record keeps of a stage, so that others can tell how long theirs will take."""
    return {} if cost is None else {"work": cost.work, "scale": cost.scale, "did": round(seconds, 3)}


def rates(out: Place) -> dict[tuple[str, str], float]:
    """Return work per second by (stage, scale), from this run's record, else from those of runs beside it."""
    head, _, name = split_query(out.uri)[0].rstrip("/").rpartition("/")
    known: dict[tuple[str, str], list[float]] = {}
    for place in _neighbors(head, name):
        for key, rate in _rates_in(place).items():
            known.setdefault(key, []).append(rate)
    return {key: statistics.median(values) for key, values in known.items()} | _rates_in(out)


def _rates_in(place: Place) -> dict[tuple[str, str], float]:
    try:
        stages = recorded_stages(place)
    except (OSError, ArtifactError):  # a file, or another's run.json: it knows no rate
        return {}
    return {
        (stage, str(record["scale"])): record["work"] / record["did"]
        for stage, record in stages.items()
        if record.get("did") and record.get("work")
    }


def _neighbors(parent: str, name: str) -> list[Place]:
    if not parent:
        return []
    above = Place(parent)
    return [above.child(other) for other in above.names()[:50] if other != name]
