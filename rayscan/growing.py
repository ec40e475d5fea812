"""A finished run whose images changed: what is new is indexed, embedded and assigned by the model there is.

That much is exact: features depend on the image alone, and the model places each image by itself. Neighbors,
clusters and whatever else is learnt of all images together is stale then; it is said, and learnt again only
if that is asked for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rayscan import pipeline
from rayscan.artifacts import Artifact
from rayscan.config import Recipe
from rayscan.console.progress import Progress
from rayscan.context import Context, Sources
from rayscan.edits.rerun import with_edits
from rayscan.errors import ArtifactError
from rayscan.fleet.connect import Fleet
from rayscan.lock import RunLock
from rayscan.methods import METHODS, NEEDS_LABELS
from rayscan.out_kinds import RUN, kind_at
from rayscan.predict import networks_of, with_engine_of
from rayscan.run import Run, record
from rayscan.stages import assign, baseline, embed, evaluate, index, labels, pretext, report
from rayscan.stages.per_space import for_spaces
from rayscan.storage import Place

PLANNED = "images changed: what is new is placed by the model there is; the rest, with --retrain:"
"""Line before the plan of a run that grew."""
KEPT = "kept"
"""In the record of a stage: what it was trained on is not what the index holds now."""


def grown_run(recipe: Recipe, sources: Sources, out: Place) -> Run | None:
    """The finished run at a place, if the same settings meet other images now; lists the storage.

    Args:
        recipe: All settings.
        sources: Images.
        out: Of the run.

    Returns:
        None where there is no such run, or it is finished for these very images.
    """
    if kind_at(out) != RUN:
        return None
    run = Run(out.uri)
    stages, model = run.record["stages"], _model_of(recipe)
    asked = replace(run.asked, fleet=recipe.fleet, report=recipe.report, evaluate=recipe.evaluate)
    if asked != recipe or any(name not in stages for name in (index.NAME, model, assign.NAME)):
        return None
    try:
        run.artifact(model)
    except ArtifactError:  # removed to be made again
        return None
    step = index.plan(recipe, {}, sources)
    is_same = step.directory == stages[index.NAME]["directory"]
    return None if is_same and KEPT not in stages[model] else run


def follow(
    run: Run, recipe: Recipe, sources: Sources, progress: Progress | None = None, *, rehash: bool = False
) -> dict[str, Artifact] | None:
    """Do what is new, by the model of a run.

    Args:
        run: From `grown_run`.
        recipe: All settings.
        sources: Images, and labels if there are any.
        progress: Where to show it.
        rehash: Check the contents of results that are taken over, not only their sizes.

    Returns:
        The results; None where only the index was done, because its images are others altogether, or the very
        same at another place.

    Raises:
        DataError: an image or a labels file cannot be read.
    """
    labels.require_file(sources)
    shown, out = progress or Progress(), run.place
    trained = run.recipe
    single = replace(trained, embed=replace(trained.embed, num_views=1))
    single = with_engine_of(run, single, shown.say)
    with RunLock(out), Fleet(recipe.fleet, out, shown.say) as fleet:
        done = _do_new(run, recipe, single, Context(out, sources, fleet, shown), rehash)
    for line in [] if done is None else stale(run, recipe, done):
        shown.say(line)
    return done


def _do_new(
    run: Run, recipe: Recipe, single: Recipe, context: Context, rehash: bool
) -> dict[str, Artifact] | None:
    """See `follow`; `single` has one view of each image."""
    out, sources, model = context.out, context.sources, _model_of(recipe)
    former = dict(run.record["stages"])
    trained_on = former[model].get(KEPT, former[index.NAME]["directory"])
    done = {**networks_of(run, single), model: run.artifact(model)}
    del done[index.TRAINED]  # an index that follows another one has its ranges anyway
    stages: dict[str, Any] = {**former, model: {**former[model], KEPT: trained_on}}
    chain = (index, pretext, embed, assign, labels, baseline, evaluate)
    for stage in for_spaces(chain, recipe.spaces):
        if stage.NAME in done:
            continue
        if stage.NAME in NEEDS_LABELS and not labels.available(done[index.NAME], sources):
            stages.pop(stage.NAME, None)
            continue
        done[stage.NAME], stages[stage.NAME] = pipeline.do(stage, single, done, context, rehash=rehash)
        if stage is index and not _is_grown(done[index.NAME], run, recipe, trained_on):
            return None
        if stage is index:
            labels.require_images(done[index.NAME], sources)
        if stage is assign:
            done[assign.NAME], stages[assign.NAME] = with_edits(
                out,
                former[assign.NAME],
                done[assign.NAME],
                done,
                stages[assign.NAME],
                context.progress.say,
                is_same_model=True,
            )
        record(out, recipe, vars(sources), stages)
    given = {name: done[name] for name in (index.NAME, assign.NAME, evaluate.NAME) if name in done}
    given[report.MODEL] = done[model]
    done[report.NAME], stages[report.NAME] = pipeline.do(report, single, given, context, rehash=rehash)
    record(out, recipe, vars(sources), stages)
    return done


def _is_grown(found: Artifact, run: Run, recipe: Recipe, trained_on: str) -> bool:
    """Whether an index follows that of a run, and holds other images than its model was trained on."""
    is_trained = found.place.uri == run.place.child(trained_on).uri
    former = run.artifact(index.NAME)
    is_moved = found.identity == former.identity and KEPT not in run.record["stages"][_model_of(recipe)]
    return index.CHANGES in found.facts and not is_trained and not is_moved


def _model_of(recipe: Recipe) -> str:
    return METHODS[recipe.method].model


def stale(run: Run, recipe: Recipe, done: dict[str, Artifact]) -> list[str]:
    """What was learnt of other images than there are now, and how to learn it again."""
    model = _model_of(recipe)
    learnt = [name for name in run.record["stages"] if name == model or name not in done]
    facts = done[index.NAME].facts
    told = facts[index.CHANGES]
    counts = ", ".join(f"{told[what]:,} {what}" for what in ("new", "changed", "gone") if told[what])
    changed = f"images changed ({counts})" if counts else "images changed"
    return [
        f"  stale: {', '.join(learnt)} were learnt before {changed}; "
        f"the model there is placed all {facts['train'] + facts['eval']:,}",
        "  to learn them again from all images: the same command with --retrain",
    ]
