"""The `rayscan` command. Parses and refuses in well under two seconds: torch and Ray load only when work starts."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import Positional, arg

from rayscan.config import Recipe
from rayscan.errors import ConfigError, RayscanError

if TYPE_CHECKING:
    from rayscan.stages.context import Sources

USAGE = """usage: rayscan COMMAND ... (COMMAND --help tells more)

  demo                     cluster 1,797 handwritten digits, from pixels to report, in minutes
  run RECIPE --data DATA   images in, clusters and a report out; run it again to resume
  shard FOLDER OUT         pack a folder of images into WebDataset shards
  index DATA               look through images and say what is there
  evaluate RUN             score a finished run against labels that came later
  predict RUN --data DATA  clusters of new images, by the model of a run
  report RUN               render the page again with other settings
  compare RUN RUN ...      a table with mean and deviation over seeds
"""


@dataclass(frozen=True, kw_only=True)
class RunArguments:
    """Cluster images: every stage that is not done yet, from index to report."""

    recipe: Annotated[Recipe, arg(name="")]
    data: str
    """Images of the train split: shards (glob, braces or a comma list), a folder, or a .csv/.parquet/.txt list."""
    out: str
    """Directory or object-store prefix of the run. The same command again resumes or does nothing."""
    eval_data: str | None = None
    """Images of the eval split: clustered and scored, never trained on."""
    labels: str | None = None
    """CSV or Parquet with a label for some images; opened only by evaluate and after."""
    plan: bool = False
    """Say what would run and why, and do nothing."""
    verify: bool = False
    """Re-hash every result that is taken over, instead of looking at sizes."""


@dataclass(frozen=True, kw_only=True)
class DemoArguments:
    """Cluster the handwritten digits that ship with scikit-learn, from pixels to report."""

    recipe: Annotated[Recipe, arg(name="")]
    out: str = "runs/demo"
    """Where the digits, as WebDataset shards, and the run go."""


@dataclass(frozen=True, kw_only=True)
class ShardArguments:
    """Pack a folder of images, nested or flat, into WebDataset shards."""

    folder: Positional[str]
    out: Positional[str]
    labels_from_folders: bool = False
    """The first folder level names the class: also write labels.parquet beside the shards."""
    resize_px: int | None = None
    """Re-encode pictures to this short side; without it files are copied byte for byte."""
    shard_megabytes: float = 200.0
    """Size at which a new shard begins."""


@dataclass(frozen=True, kw_only=True)
class IndexArguments:
    """Look through images, check that each one decodes, and write the index of a run."""

    data: Positional[str]
    out: str
    """Where the index goes; a later `run` with the same --out takes it over."""
    eval_data: str | None = None
    """Images of the eval split."""


@dataclass(frozen=True, kw_only=True)
class EvaluateArguments:
    """Score a finished run against labels."""

    run: Positional[str]
    labels: str | None = None
    """CSV or Parquet with `label` and one of id, source, key; without it, labels inside the shards."""


@dataclass(frozen=True, kw_only=True)
class PredictArguments:
    """Clusters of new images, by the model of a run."""

    run: Positional[str]
    data: str
    """New images: shards, a folder, or a list."""
    out: str
    """Where assignments.parquet and the report go."""


@dataclass(frozen=True, kw_only=True)
class ReportArguments:
    """Render the page of a run again."""

    run: Positional[str]
    images: str | None = None
    """thumbnails or none."""
    max_megabytes: float | None = None
    """Size cap of the page."""


@dataclass(frozen=True, kw_only=True)
class CompareArguments:
    """A table of runs: mean and deviation over seeds, k-means beside."""

    runs: Positional[tuple[str, ...]]
    json: bool = False
    """Print JSON."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 1 for a failure, 2 for a mistake in the command."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        sys.stdout.write(USAGE)
        return 0 if given else 2
    name, rest = given[0], given[1:]
    if name == "--version":
        from rayscan import __version__

        sys.stdout.write(f"rayscan {__version__}\n")
        return 0
    command = COMMANDS.get(name)
    if command is None:
        sys.stderr.write(f"rayscan: no command {name!r}\n\n{USAGE}")
        return 2
    try:
        command(rest)
    except ConfigError as error:
        sys.stderr.write(f"rayscan {name}: {error}\n")
        return 2
    except RayscanError as error:
        sys.stderr.write(f"rayscan {name}: {error}\nresume with:\n  {resume_command(name, rest)}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(f"\nstopped; resume with:\n  {resume_command(name, rest)}\n")
        return 130
    return 0


def resume_command(name: str, rest: Sequence[str]) -> str:
    """The command that goes on where this one stopped."""
    start = ["python", "-m", "rayscan.full_imagenet"] if name == "full_imagenet" else ["rayscan", name]
    return shlex.join([*start, *rest])


def run_command(rest: list[str]) -> None:
    """`rayscan run RECIPE ...`; RECIPE is a name or the path of a recipe.json."""
    from rayscan.recipes import RECIPES

    if not rest or rest[0] in ("-h", "--help"):
        names = "\n".join(f"  {n:12} {(f.__doc__ or '').strip().splitlines()[0]}" for n, f in RECIPES.items())
        sys.stdout.write(f"usage: rayscan run RECIPE --data DATA --out OUT ...\n\nrecipes:\n{names}\n")
        return
    if rest[0].startswith("-"):
        raise ConfigError("the recipe comes first", expected=", ".join(RECIPES), got=rest[0], where="rayscan run")
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
    default = RunArguments(recipe=recipe, data=tyro.MISSING, out=tyro.MISSING)
    asked = tyro.cli(RunArguments, default=default, args=list(rest), prog=prog)
    from rayscan.run import require_clusters

    require_clusters(asked.recipe)
    from rayscan.stages.context import Sources

    sources = Sources(_absolute(asked.data), _absolute(asked.eval_data), _absolute(asked.labels))
    (_show_plan if asked.plan else _run)(asked, sources)


def _run(asked: RunArguments, sources: Sources) -> None:
    from rayscan import pipeline
    from rayscan.storage import Place

    out = Place(asked.out)
    pipeline.run(asked.recipe, sources, out, rehash=asked.verify)
    sys.stdout.write(f"report: {out.uri_of('report/index.html')}\n")


def _show_plan(asked: RunArguments, sources: Sources) -> None:
    from rayscan import pipeline
    from rayscan.storage import Place

    for planned in pipeline.plan(asked.recipe, sources, Place(asked.out)):
        sys.stdout.write(f"{planned.stage:10} {'reused' if planned.is_reused else 'run':7} {planned.why}\n")


def demo_command(rest: list[str]) -> None:
    """`rayscan demo`."""
    from rayscan.recipes import by_name

    asked = tyro.cli(DemoArguments, default=DemoArguments(recipe=by_name("digits")), args=rest, prog="rayscan demo")
    from rayscan import pipeline
    from rayscan.data.digits import write_digits
    from rayscan.stages.context import Sources
    from rayscan.storage import Place

    out = Place(asked.out)
    digits = write_digits(out.child("data"))
    pipeline.run(asked.recipe, Sources(digits.train, digits.eval, digits.labels), out)
    sys.stdout.write(f"report: {out.uri_of('report/index.html')}\n")


def shard_command(rest: list[str]) -> None:
    """`rayscan shard FOLDER OUT`."""
    asked = tyro.cli(ShardArguments, args=rest, prog="rayscan shard")
    from rayscan.data.shard_writer import write_shards

    summary = write_shards(
        asked.folder,
        asked.out,
        labels_from_folders=asked.labels_from_folders,
        shard_bytes=int(asked.shard_megabytes * 1e6),
        resize_px=asked.resize_px,
    )
    sys.stdout.write(f"{summary}\n")


def index_command(rest: list[str]) -> None:
    """`rayscan index DATA --out OUT`."""
    asked = tyro.cli(IndexArguments, args=rest, prog="rayscan index")
    from rayscan import pipeline
    from rayscan.recipes import by_name
    from rayscan.stages import index
    from rayscan.stages.context import Sources
    from rayscan.storage import Place

    recipe = replace(by_name("custom"), num_clusters=2)  # indexing forms none, but a run wants to know
    sources = Sources(_absolute(asked.data), _absolute(asked.eval_data))
    facts = pipeline.run(recipe, sources, Place(asked.out), river=(index,))["index"].facts
    sys.stdout.write(f"{facts['train']:,} train, {facts['eval']:,} eval, {facts['quarantined']:,} quarantined\n")


def evaluate_command(rest: list[str]) -> None:
    """`rayscan evaluate RUN --labels FILE`."""
    asked = tyro.cli(EvaluateArguments, args=rest, prog="rayscan evaluate")
    from rayscan import pipeline
    from rayscan.run import Run
    from rayscan.stages.context import Sources

    run = Run(asked.run)
    sources = replace(Sources(**run.record["sources"]), labels=_absolute(asked.labels))
    pipeline.run(run.recipe, sources, run.place)
    sys.stdout.write(f"scores: {run.place.uri_of('scores.json')}\nreport: {run.report}\n")


def predict_command(rest: list[str]) -> None:
    """`rayscan predict RUN --data NEW --out DIR`."""
    asked = tyro.cli(PredictArguments, args=rest, prog="rayscan predict")
    from rayscan.predict import predict

    out = predict(asked.run, _absolute(asked.data) or "", asked.out)
    sys.stdout.write(f"assignments: {out.uri_of('assignments.parquet')}\n")


def report_command(rest: list[str]) -> None:
    """`rayscan report RUN`."""
    asked = tyro.cli(ReportArguments, args=rest, prog="rayscan report")
    from rayscan import pipeline
    from rayscan.run import Run
    from rayscan.stages.context import Sources

    run = Run(asked.run)
    changes = {"images": asked.images, "max_megabytes": asked.max_megabytes}
    page = replace(run.recipe.report, **{k: v for k, v in changes.items() if v is not None})
    pipeline.run(replace(run.recipe, report=page), Sources(**run.record["sources"]), run.place)
    sys.stdout.write(f"report: {run.report}\n")


def compare_command(rest: list[str]) -> None:
    """`rayscan compare RUN RUN ...`."""
    asked = tyro.cli(CompareArguments, args=rest, prog="rayscan compare")
    from rayscan.report.compare import compare
    from rayscan.run import Run

    sys.stdout.write(compare([Run(uri) for uri in asked.runs], as_json=asked.json) + "\n")


def _absolute(pattern: str | None) -> str | None:
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
    "shard": shard_command,
    "index": index_command,
    "evaluate": evaluate_command,
    "predict": predict_command,
    "report": report_command,
    "compare": compare_command,
    "full_imagenet": full_imagenet_command,
}

if __name__ == "__main__":
    sys.exit(main())
