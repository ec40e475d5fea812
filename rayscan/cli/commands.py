"""Commands that run stages. torch and Ray are imported inside: mistakes are refused before they load."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from rayscan.cli.arguments import (
    NO_READING,
    ReadingOptions,
    RunUri,
    Settings,
    absolute_features,
    absolute_file,
    embeddings_alone,
    sources,
)
from rayscan.search.plan import Plan

DEFAULT_PLAN = Plan()


def demo(recipe: Settings, *, out: str = "runs/demo") -> None:
    """Cluster 1,797 handwritten digits, from pixels to report, in minutes.

    The digits are those that ship with scikit-learn.

    Args:
        recipe: The recipe `digits`.
        out: Where the digits, as WebDataset shards, and the run go.
    """
    from rayscan import pipeline
    from rayscan.data.digits import write_digits
    from rayscan.out_kinds import RUN, require_out
    from rayscan.storage import Place

    place = Place(out)
    require_out(place, RUN)
    digits = write_digits(place.child("data"))
    pipeline.run(recipe, sources(digits.train, digits.eval, digits.labels), place)
    sys.stdout.write(f"report: {place.uri_of('report/index.html')}\n")


def run(
    recipe: Settings,
    *,
    out: str,
    data: str | None = None,
    eval_data: str | None = None,
    labels: str | None = None,
    until: str | None = None,
    plan: bool = False,
    verify: bool = False,
    retrain: bool = False,
    reading: ReadingOptions = NO_READING,
) -> None:
    """Images in, clusters and a report out; run it again to resume.

    Args:
        recipe: What the run does, stage by stage.
        out: Directory or object-store prefix of the run. The same command again resumes or does nothing.
        data: Images of the train split: shards (globs, braces, lists), a folder, or a .csv/.parquet/.txt
            list. Only a run from embeddings, `--features file:PATH`, does without.
        eval_data: Images of the eval split: clustered and scored, never trained on.
        labels: CSV or Parquet with a label for some images; opened only by evaluate and after.
        reading: Which parts of files are the images.
        until: Stop after this stage: index, pretext, embed, mine, ...
        plan: Say what would run and why, and do nothing.
        verify: Re-hash every result that is taken over, instead of comparing sizes.
        retrain: Where images came or went since: learn from all; without it the model there is places them.
    """
    from rayscan.run import require_clusters
    from rayscan.storage import Place

    if until is None:
        require_clusters(recipe, may_find=True)
    recipe = replace(recipe, features=absolute_features(recipe.features))
    given, place = sources(data or embeddings_alone(recipe), eval_data, labels, reading), Place(out)
    from rayscan import growing, pipeline

    grown = None if retrain or until is not None else growing.grown_run(recipe, given, place)
    if plan:
        from rayscan.cli.results import feature_lines, plan_lines

        lines = (*feature_lines(recipe), *plan_lines(pipeline.plan(recipe, given, place)))
        sys.stdout.write("".join(f"{line}\n" for line in (*([growing.PLANNED] if grown else []), *lines)))
        return
    page = f"report: {place.uri_of('report/index.html')}"
    done = None if grown is None else growing.follow(grown, recipe, given, rehash=verify)
    if done is None:
        stages = None if until is None else pipeline.stages_until(recipe, until)
        done = pipeline.run(recipe, given, place, stages=stages, rehash=verify)
    sys.stdout.write(f"{page if until is None else f'{until}: {done[until].place.uri}'}\n")


def search(
    recipe: Settings,
    *,
    data: str,
    out: str,
    eval_data: str | None = None,
    space: tuple[str, ...] = (),
    plan: Annotated[Plan, arg(name="")] = DEFAULT_PLAN,
    reading: ReadingOptions = NO_READING,
) -> None:
    """Find settings without a label: many trials, scored by neighbors and a linear rule.

    Args:
        recipe: What is searched around.
        data: Images of the train split, as for `run`.
        out: As for `run`: index, pretext, embed and mine are taken over or left for a later run. The search
            writes search/results.parquet, search/recipe.json, search/vote.parquet and search/index.html. The
            same command again goes on.
        eval_data: Images of the eval split: indexed and embedded, so that `run` with the same --out takes
            them over; no part of the score.
        reading: Which parts of files are the images.
        space: Settings to vary: path=low:high, path=low:high:log, path=one,another. Without it entropy
            weight, K and threshold.
        plan: How many trials, and how they run.
    """
    from rayscan.run import require_clusters
    from rayscan.search.space import make_space
    from rayscan.storage import Place

    require_clusters(recipe)
    varied = make_space(recipe, space, from_images=plan.from_images)
    given, place = sources(data, eval_data, reading=reading), Place(out)
    from rayscan.search.driver import search

    search(varied, given, place, plan)
    recipe_uri, page = (place.uri_of(f"search/{name}") for name in ("recipe.json", "index.html"))
    sys.stdout.write(f"best settings: {recipe_uri}\npage: {page}\n")


def experiment(
    name: Positional[Annotated[str, arg(metavar="NAME")]],
    recipe: Settings,
    *,
    data: str,
    out: str,
    eval_data: str | None = None,
    labels: str | None = None,
    seeds: int = 3,
    reading: ReadingOptions = NO_READING,
) -> None:
    """A table or figure of a paper on your images, over seeds.

    Args:
        name: Which one; `rayscan experiment` lists them.
        recipe: What its rows start from.
        data: Images of the train split: shards (globs, braces, lists), a folder, or a .csv/.parquet/.txt
            list.
        out: Where the runs go; tables and figures go to experiments/NAME in it. One --out shares all results.
        eval_data: Images of the eval split, which is then the one that is scored.
        labels: CSV or Parquet with a label for some images; without it, labels inside the shards.
        reading: Which parts of files are the images.
        seeds: Runs of each row, from the recipe's seed on.
    """
    from rayscan.experiments import experiment_named
    from rayscan.run import require_clusters
    from rayscan.sections import require
    from rayscan.storage import Place

    chosen = experiment_named(name)
    require_clusters(recipe)
    require(seeds >= 1, "seeds", ">= 1", seeds)
    given = sources(data, eval_data, labels, reading)
    from rayscan.experiments.running import run_experiment

    sys.stdout.write(run_experiment(chosen, recipe, given, Place(out), seeds=seeds))


def evaluate(run: RunUri, *, labels: str | None = None) -> None:
    """Score a finished run against labels that came later.

    Args:
        run: The --out of the run.
        labels: CSV or Parquet with `label` and one of id, source, key; without it, labels inside the shards.
    """
    from rayscan import pipeline
    from rayscan.context import Sources
    from rayscan.run import Run

    finished = Run(run)
    given = replace(Sources(**finished.record["sources"]), labels=absolute_file(labels))
    pipeline.run(finished.asked, given, finished.place)
    sys.stdout.write(f"scores: {finished.place.uri_of('scores.json')}\nreport: {finished.report}\n")


def predict(
    run: RunUri,
    *,
    out: str,
    data: str | None = None,
    features: tuple[str, ...] = (),
    reading: ReadingOptions = NO_READING,
) -> None:
    """Clusters of new images, by the model of a run.

    Args:
        run: The --out of the run.
        out: Where assignments.parquet, clusters.json and report/index.html go.
        data: New images: shards, a folder, or a list. Without it, embeddings alone are clustered.
        reading: Which parts of files are the images.
        features: For a run from embeddings: those of the new images, as file:PATH.
    """
    from rayscan.predict import predict

    new = absolute_features(features) if features else ()
    given = sources(data, reading=reading)
    place = predict(run, given.data, out, new, given)
    sys.stdout.write(
        f"assignments: {place.uri_of('assignments.parquet')}\nreport: {place.uri_of('report/index.html')}\n"
    )


def transfer(
    run: RunUri,
    *,
    data: str,
    out: str,
    labels: str | None = None,
    class_map: str | None = None,
    reading: ReadingOptions = NO_READING,
) -> None:
    """The clusters of a run judged on another labelled set.

    The protocol is that of ObjectNet in arXiv 2008.10312, Appendix C.

    Args:
        run: The --out of the run.
        data: The other images: shards, a folder, or a list.
        out: Where their assignments and transfer.json go.
        labels: Their labels; without it, labels inside the shards.
        reading: Which parts of files are the images.
        class_map: CSV with columns `class` (theirs) and `maps_to` (the run's), a row per pair; else equal
            names.
    """
    from rayscan.transfer import table_c2, transfer

    given = sources(data, labels=labels, reading=reading)
    sys.stdout.write(table_c2(transfer(run, given, out, class_map)) + "\n")


def report(
    run: RunUri, *, images: Literal["thumbnails", "none"] | None = None, max_megabytes: float | None = None
) -> None:
    """Render the page of a run again, with other settings.

    Args:
        run: The --out of the run.
        images: Whether pictures are put into the page.
        max_megabytes: Size cap of the page.
    """
    from rayscan import pipeline
    from rayscan.context import Sources
    from rayscan.run import Run

    finished = Run(run)
    page = finished.recipe.report
    page = page if images is None else replace(page, images=images)
    page = page if max_megabytes is None else replace(page, max_megabytes=max_megabytes)
    given = Sources(**finished.record["sources"])
    pipeline.run(replace(finished.asked, report=page), given, finished.place)
    sys.stdout.write(f"report: {finished.report}\n")
