"""What each command does. torch and Ray are imported inside: mistakes are refused before they load."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import tyro

from rayscan.cli.arguments import (
    CompareArguments,
    DemoArguments,
    EvaluateArguments,
    IndexArguments,
    PredictArguments,
    ReportArguments,
    RunArguments,
    SearchArguments,
    ShardArguments,
    TransferArguments,
)
from rayscan.cli.looking import doctor_command, status_command
from rayscan.config import Recipe
from rayscan.config.variants import with_variants
from rayscan.errors import ConfigError

if TYPE_CHECKING:
    from rayscan.stages.context import Sources


def run_command(rest: list[str]) -> None:
    """`rayscan run RECIPE ...`; RECIPE is a name or the path of a recipe.json."""
    from rayscan.recipes import RECIPES

    if not rest or rest[0] in ("-h", "--help"):
        names = "\n".join(f"  {n:12} {(f.__doc__ or '').strip().splitlines()[0]}" for n, f in RECIPES.items())
        sys.stdout.write(f"usage: rayscan run RECIPE --data DATA --out OUT ...\n\nrecipes:\n{names}\n")
        return
    if rest[0].startswith("-"):
        raise ConfigError(
            "the recipe comes first", expected=", ".join(RECIPES), got=rest[0], where="rayscan run"
        )
    run_recipe(recipe_named(rest[0]), rest[1:], prog=f"rayscan run {rest[0]}")


def recipe_named(name: str) -> Recipe:
    """A recipe by its name, or from a recipe.json."""
    if name.endswith(".json"):
        from rayscan.run import recipe_from_json
        from rayscan.storage import Place

        folder, _, file = name.rpartition("/")
        try:
            return recipe_from_json(Place(folder or ".").read(file), name)
        except FileNotFoundError as error:
            raise ConfigError("there is no such recipe file", got=name, where="rayscan run") from error
    from rayscan.recipes import by_name

    return by_name(name)


def run_recipe(recipe: Recipe, rest: Sequence[str], *, prog: str) -> None:
    """Parse the rest of a command over a recipe, and run or plan it."""
    default = RunArguments(recipe=with_variants(recipe, rest), data=tyro.MISSING, out=tyro.MISSING)
    asked = tyro.cli(RunArguments, default=default, args=list(rest), prog=prog)
    pretext = replace(asked.recipe.pretext, checkpoint=absolute(asked.recipe.pretext.checkpoint))
    asked = replace(asked, recipe=replace(asked.recipe, pretext=pretext))
    from rayscan.run import require_clusters

    require_clusters(asked.recipe)
    from rayscan.stages.context import Sources

    sources = Sources(absolute(asked.data), absolute(asked.eval_data), absolute(asked.labels))
    (_show_plan if asked.plan else _run)(asked, sources)


def _run(asked: RunArguments, sources: Sources) -> None:
    from rayscan import pipeline
    from rayscan.storage import Place

    out = Place(asked.out)
    river = None if asked.until is None else pipeline.stages_until(asked.recipe, asked.until)
    done = pipeline.run(asked.recipe, sources, out, river=river, rehash=asked.verify)
    if asked.until is None:
        sys.stdout.write(f"report: {out.uri_of('report/index.html')}\n")
    else:
        sys.stdout.write(f"{asked.until}: {done[asked.until].place.uri}\n")


def _show_plan(asked: RunArguments, sources: Sources) -> None:
    from rayscan import pipeline
    from rayscan.cli.status import plan_lines
    from rayscan.storage import Place

    planned = pipeline.plan(asked.recipe, sources, Place(asked.out))
    sys.stdout.write("".join(f"{line}\n" for line in plan_lines(planned)))


def search_command(rest: list[str]) -> None:
    """`rayscan search RECIPE ...`: the recipe as for `run`."""
    from rayscan.recipes import RECIPES

    if not rest or rest[0].startswith("-"):
        sys.stdout.write(
            "usage: rayscan search RECIPE --data DATA --out OUT [--trials 60] [--space PATH=VALUES ...]\n\n"
            f"recipes: {', '.join(RECIPES)}, or a recipe.json\nrayscan search RECIPE --help tells more\n"
        )
        return
    asked = tyro.cli(
        SearchArguments,
        default=SearchArguments(
            recipe=with_variants(recipe_named(rest[0]), rest[1:]), data=tyro.MISSING, out=tyro.MISSING
        ),
        args=rest[1:],
        prog=f"rayscan search {rest[0]}",
    )
    from rayscan.run import require_clusters
    from rayscan.search.plan import Plan
    from rayscan.search.space import make_space

    require_clusters(asked.recipe)
    space = make_space(asked.recipe, asked.space, from_images=asked.from_images)
    plan = Plan(**{name: getattr(asked, name) for name in Plan.__dataclass_fields__})
    from rayscan.search.driver import search
    from rayscan.stages.context import Sources
    from rayscan.storage import Place

    out = Place(asked.out)
    search(space, Sources(absolute(asked.data), absolute(asked.eval_data)), out, plan)
    sys.stdout.write(
        f"best settings: {out.uri_of('search/recipe.json')}\npage: {out.uri_of('search/index.html')}\n"
    )


def demo_command(rest: list[str]) -> None:
    """`rayscan demo`."""
    from rayscan.recipes import by_name

    asked = tyro.cli(
        DemoArguments,
        default=DemoArguments(recipe=with_variants(by_name("digits"), rest)),
        args=rest,
        prog="rayscan demo",
    )
    from rayscan import pipeline
    from rayscan.data.digits import write_digits
    from rayscan.stages.context import Sources
    from rayscan.storage import Place

    out = Place(asked.out)
    digits = write_digits(out.child("data"))
    pipeline.run(asked.recipe, Sources(digits.train, digits.eval, digits.labels), out)
    sys.stdout.write(f"report: {out.uri_of('report/index.html')}\n")


def shard_command(rest: list[str]) -> None:
    """`rayscan shard DATA OUT`."""
    asked = tyro.cli(ShardArguments, args=rest, prog="rayscan shard")
    from rayscan.cli.shard_data import shard_data

    shard_data(asked)


def index_command(rest: list[str]) -> None:
    """`rayscan index DATA --out OUT`."""
    asked = tyro.cli(IndexArguments, args=rest, prog="rayscan index")
    from rayscan import pipeline
    from rayscan.recipes import by_name
    from rayscan.stages import index
    from rayscan.stages.context import Sources
    from rayscan.storage import Place

    custom = by_name("custom")
    limits = replace(custom.images, on_bad=asked.on_bad, max_bad_fraction=asked.max_bad_fraction)
    recipe = replace(custom, num_clusters=2, images=limits)  # indexing forms none, but a run wants to know
    sources = Sources(absolute(asked.data), absolute(asked.eval_data))
    facts = pipeline.run(recipe, sources, Place(asked.out), river=(index,))["index"].facts
    sys.stdout.write(
        f"{facts['train']:,} train, {facts['eval']:,} eval, {facts['quarantined']:,} quarantined\n"
    )


def evaluate_command(rest: list[str]) -> None:
    """`rayscan evaluate RUN --labels FILE`."""
    asked = tyro.cli(EvaluateArguments, args=rest, prog="rayscan evaluate")
    from rayscan import pipeline
    from rayscan.run import Run
    from rayscan.stages.context import Sources

    run = Run(asked.run)
    sources = replace(Sources(**run.record["sources"]), labels=absolute(asked.labels))
    pipeline.run(run.recipe, sources, run.place)
    sys.stdout.write(f"scores: {run.place.uri_of('scores.json')}\nreport: {run.report}\n")


def predict_command(rest: list[str]) -> None:
    """`rayscan predict RUN --data NEW --out DIR`."""
    asked = tyro.cli(PredictArguments, args=rest, prog="rayscan predict")
    from rayscan.predict import predict

    out = predict(asked.run, absolute(asked.data) or "", asked.out)
    sys.stdout.write(f"assignments: {out.uri_of('assignments.parquet')}\n")


def transfer_command(rest: list[str]) -> None:
    """`rayscan transfer RUN --data OTHER --labels FILE --class-map MAP --out DIR`."""
    asked = tyro.cli(TransferArguments, args=rest, prog="rayscan transfer")
    from rayscan.stages.context import Sources
    from rayscan.transfer import table_c2, transfer

    sources = Sources(absolute(asked.data), labels=absolute(asked.labels))
    found = transfer(asked.run, sources, asked.out, asked.class_map)
    sys.stdout.write(table_c2(found) + "\n")


def report_command(rest: list[str]) -> None:
    """`rayscan report RUN`."""
    asked = tyro.cli(ReportArguments, args=rest, prog="rayscan report")
    from rayscan import pipeline
    from rayscan.run import Run
    from rayscan.stages.context import Sources

    run = Run(asked.run)
    page = run.recipe.report
    if asked.images is not None:
        page = replace(page, images=asked.images)
    if asked.max_megabytes is not None:
        page = replace(page, max_megabytes=asked.max_megabytes)
    pipeline.run(replace(run.recipe, report=page), Sources(**run.record["sources"]), run.place)
    sys.stdout.write(f"report: {run.report}\n")


def compare_command(rest: list[str]) -> None:
    """`rayscan compare RUN RUN ...`."""
    asked = tyro.cli(CompareArguments, args=rest, prog="rayscan compare")
    from rayscan.report.compare import compare
    from rayscan.run import Run

    sys.stdout.write(
        compare([Run(uri) for uri in asked.runs], as_json=asked.json, as_table1=asked.table1) + "\n"
    )


def absolute(pattern: str | None) -> str | None:
    """Local patterns made absolute, so that a run can be resumed from another directory."""
    if pattern is None or "://" in pattern:
        return pattern
    return ",".join(os.path.abspath(os.path.expanduser(p)) for p in pattern.split(","))  # noqa: PTH100,PTH111


def full_imagenet_command(rest: list[str]) -> None:
    """`python -m rayscan.full_imagenet ...`: the imagenet recipe."""
    run_recipe(recipe_named("imagenet"), rest, prog="python -m rayscan.full_imagenet")


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "demo": demo_command,
    "run": run_command,
    "search": search_command,
    "shard": shard_command,
    "index": index_command,
    "doctor": doctor_command,
    "status": status_command,
    "evaluate": evaluate_command,
    "predict": predict_command,
    "transfer": transfer_command,
    "report": report_command,
    "compare": compare_command,
    "full_imagenet": full_imagenet_command,
}
