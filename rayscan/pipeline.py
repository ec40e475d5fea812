"""A run: stages in order, each handed the results before it, none run twice.

index -> pretext -> embed -> mine -> duplicates -> scan -> selflabel -> assign -> labels -> baseline
-> evaluate -> report
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from types import ModuleType
from typing import Any

from rayscan.artifacts import Artifact, Step, find, load
from rayscan.catalog import pretrained
from rayscan.config import Recipe
from rayscan.console.progress import Progress
from rayscan.console.trackers import Trackers
from rayscan.context import Context, Sources
from rayscan.costs import Cost, StagePlan, cost_of, cost_record, rates
from rayscan.edits.rerun import current, publish_proposals, with_edits
from rayscan.errors import ArtifactError
from rayscan.fleet.connect import Fleet
from rayscan.lock import RunLock
from rayscan.methods import FINDS, METHODS, NEEDS_LABELS
from rayscan.naming.stored import proposed_names
from rayscan.nets.resnet import SHAPES
from rayscan.run import record, recorded_stages, require_clusters, with_former_times
from rayscan.sections import flat, require
from rayscan.stages import assign, index, labels, mine, names, scan
from rayscan.stages.per_space import for_spaces
from rayscan.storage import Place
from rayscan.training.prior import read_prior
from rayscan.training.spaces import require_spaces

METRICS = "metrics.parquet"
NEEDS_WORDS = (names.NAME,)
FEATURE_STAGES = (index.NAME, "pretext", "embed", "join", mine.NAME, "duplicates")
"""Those that form no clusters."""


def run(
    recipe: Recipe,
    sources: Sources,
    out: Place,
    *,
    stages: tuple[ModuleType, ...] | None = None,
    progress: Progress | None = None,
    rehash: bool = False,
) -> dict[str, Artifact]:
    """Do what is not done yet.

    Args:
        recipe: All settings.
        sources: Images, and labels if there are any.
        out: Where results go.
        stages: Stages to run, in order; those of the recipe's method if not given.
        progress: Where to show it.
        rehash: Check the contents of results that are taken over, not only their sizes.

    Returns:
        The result of every stage.
    """
    chain = stages_of(recipe) if stages is None else stages
    require_given(recipe, sources, chain)
    shown, asked = progress or Progress(), recipe
    done: dict[str, Artifact] = {}
    records: dict[str, Any] = {}
    before = recorded_stages(out)
    with RunLock(out), Fleet(recipe.fleet, out, shown.say) as fleet, Trackers(out, recipe.name) as trackers:
        context = Context(out, sources, fleet, shown, trackers)
        for stage in chain:
            if _is_without(stage, done, sources):
                continue
            done[stage.NAME], said = do(
                stage, recipe, done, context, rehash=rehash, former=before.get(stage.NAME)
            )
            if stage is assign:
                former = before.get(assign.NAME, {})
                done[assign.NAME], said = with_edits(out, former, done[assign.NAME], done, said, shown.say)
            records[stage.NAME] = with_former_times(said, before.get(stage.NAME, {}))
            recipe = with_found(recipe, done)
            record(out, asked, vars(sources), records)
            if stage is names:
                publish_proposals(out, proposed_names(done[names.NAME]))
            if stage is index and stages is None:
                check_data(recipe, done["index"])
            if stage is index and labels in chain:
                labels.require_images(done["index"], sources)
    return done


def require_given(recipe: Recipe, sources: Sources, chain: Sequence[ModuleType]) -> None:
    """Refuse what cannot work, before anything is done.

    Raises:
        ConfigError: settings or files do not go together, naming the first.
        DataError: the labels file cannot be used.
    """
    if any(stage.NAME.partition("@")[0] not in FEATURE_STAGES for stage in chain):
        require_clusters(recipe, may_find=True)
    require_spaces(recipe)
    if labels in chain:
        labels.require_file(sources)
    if scan in chain and not recipe.is_auto:
        read_prior(recipe, recipe.scan.prior)


def _is_without(stage: ModuleType, done: Mapping[str, Artifact], sources: Sources) -> bool:
    """Whether there is nothing that a stage could read: no labels, or no words."""
    if stage.NAME in NEEDS_WORDS:
        return not names.available(done["index"])
    return stage.NAME in NEEDS_LABELS and not labels.available(done["index"], sources)


def stages_of(recipe: Recipe) -> tuple[ModuleType, ...]:
    """The stages of a recipe's method, in order, for all its spaces of features."""
    names = [name for name in METHODS[recipe.method].stages if name != FINDS or recipe.is_auto]
    modules = [import_module(f"rayscan.stages.{name}") for name in names]
    return for_spaces(modules, recipe.spaces)


def stages_until(recipe: Recipe, name: str) -> tuple[ModuleType, ...]:
    """The stages of a recipe's method up to one of them.

    Raises:
        ConfigError: the method has no such stage, or only labels can give it.
    """
    stages = stages_of(recipe)
    names = [stage.NAME for stage in stages]
    require(name in names and name not in NEEDS_LABELS, "until", f"one of {', '.join(names)}", name)
    return stages[: names.index(name) + 1]


def check_data(recipe: Recipe, indexed: Artifact) -> None:
    """Refuse, as soon as the images are counted, settings that do not go with their number.

    Raises:
        ConfigError: there are too few images for the clusters or the neighbors.
    """
    num_train = int(indexed.facts["train"])
    require(
        recipe.is_auto or recipe.clusters < num_train,
        "num_clusters",
        f"fewer than the {num_train:,} usable train images",
        recipe.num_clusters,
    )
    if mine in stages_of(recipe):
        mine.check_size(recipe, num_train)


def with_found(recipe: Recipe, done: Mapping[str, Artifact]) -> Recipe:
    """The recipe with the number of clusters that was found, once it is."""
    if not recipe.is_auto or FINDS not in done:
        return recipe
    return replace(recipe, num_clusters=int(done[FINDS].facts["num_clusters"]))


def do(
    stage: ModuleType,
    recipe: Recipe,
    done: Mapping[str, Artifact],
    context: Context,
    *,
    rehash: bool = False,
    former: Mapping[str, Any] | None = None,
) -> tuple[Artifact, dict[str, Any]]:
    """Do one stage, or take over what is done.

    Args:
        stage: Its module.
        recipe: All settings.
        done: Results of the stages before it.
        context: Storage, machines, console.
        rehash: Check the contents of a result that is taken over, not only its sizes.
        former: What the record of the run says of this stage, if it was done with other settings or images:
            why it is done again is said then.

    Returns:
        Its result, and what the run's record says of it.
    """
    began = time.monotonic()
    step = stage.plan(recipe, done, context.sources)
    found = find(context.out.child(step.directory), step, rehash=rehash)
    if found is None and former and former.get("directory") not in (None, step.directory):
        context.progress.say(f"  {stage.NAME}: again, {_difference(context.out, step)}")
    is_fresh = not context.out.child(step.directory).names() and not context.work(step).names()
    artifact: Artifact = found or stage.run(recipe, done, step, context)
    seconds = round(time.monotonic() - began, 3)
    said = {"directory": step.directory, "seconds": seconds, "reused": found is not None}
    if stage.NAME == FINDS:
        said["num_clusters"] = artifact.facts["num_clusters"]
    if found:
        context.progress.say(f"  {stage.NAME}: done before, taken over ({step.directory})")
    elif context.trackers is not None and METRICS in artifact.files:
        context.trackers.complete(stage.NAME, artifact.read_table(METRICS))
    if is_fresh and not found:  # the time of a stage that was resumed says nothing about its speed
        said |= cost_record(_cost(stage.NAME, recipe, {**done, stage.NAME: artifact}), seconds)
    return artifact, said


def plan(recipe: Recipe, sources: Sources, out: Place) -> Iterator[StagePlan]:
    """What `run` would do, without doing it."""
    require_clusters(recipe, may_find=True)
    require_spaces(recipe)
    done: dict[str, Artifact] = {}
    known = rates(out)
    unknown = ""
    for stage in stages_of(recipe):
        if stage.NAME in NEEDS_WORDS + NEEDS_LABELS and (unknown or _is_without(stage, done, sources)):
            continue
        cost = _cost(stage.NAME, recipe, done)
        rate = None if cost is None else known.get((stage.NAME, cost.scale))
        seconds = None if cost is None or rate is None else cost.work / rate
        if unknown:
            yield StagePlan(stage.NAME, False, f"{unknown} runs before it", None, cost, seconds)
            continue
        step = stage.plan(recipe, done, sources)
        found = find(out.child(step.directory), step)
        if found is None:
            unknown = stage.NAME
            yield StagePlan(stage.NAME, False, _difference(out, step), step.directory, cost, seconds)
        else:
            done[stage.NAME] = current(out, found) if stage is assign else found
            recipe = with_found(recipe, done)
            yield StagePlan(stage.NAME, True, step.directory, step.directory, cost, 0.0)


def _cost(stage: str, recipe: Recipe, done: Mapping[str, Artifact]) -> Cost | None:
    """Cost of a stage; None before the images are counted."""
    if "index" not in done:
        return None
    train, rest = int(done["index"].facts["train"]), int(done["index"].facts["eval"])
    dim = done["embed"].facts["dim"] if "embed" in done else _dim(recipe)
    return cost_of(stage, recipe, train, train + rest, dim)


def _dim(recipe: Recipe) -> int | None:
    """D of the embeddings before there are any; None for a net whose width is not known here."""
    spaces = recipe.spaces
    if any(space.kind != "own" for space in spaces):
        return pretrained(spaces[0].target).dim if [s.kind for s in spaces] == ["pretrained"] else None
    if recipe.embed.space == "projection":
        return recipe.pretext.projection_dim
    shape = SHAPES.get(recipe.pretext.backbone)
    return None if shape is None else shape.dim


def _difference(out: Place, step: Step) -> str:
    """Why a step is not done: nothing of its stage is there, or what differs from the nearest that is."""
    others = [name for name in out.names() if name.startswith(f"{step.stage}-")]
    nearest: list[str] | None = None
    for name in others:
        try:
            manifest = load(out.child(name)).manifest
        except ArtifactError:
            continue
        mine = {**flat(step.config), **{f"input {k}": v[:12] for k, v in step.inputs.items()}}
        theirs = {
            **flat(manifest["config"]),
            **{f"input {k}": v[:12] for k, v in manifest["inputs"].items()},
        }
        changed = [
            f"{k}: {theirs.get(k)} -> {mine.get(k)}"
            for k in sorted(mine | theirs)
            if mine.get(k) != theirs.get(k)
        ]
        if nearest is None or len(changed) < len(nearest):
            nearest = changed
    if nearest is None:
        return "no result yet"
    return "; ".join(nearest[:4]) + ("; ..." if len(nearest) > 4 else "")
