"""What the commands over several runs do: experiments, merging clusters, consensus. Imports are lazy."""

from __future__ import annotations

import sys
from collections.abc import Callable

import tyro

from rayscan.cli.arguments import ConsensusArguments, ExperimentArguments, MergeArguments
from rayscan.cli.commands import absolute, recipe_named
from rayscan.config.variants import with_variants


def experiment_command(rest: list[str]) -> None:
    """`rayscan experiment NAME [RECIPE] --data DATA --out OUT`; without a name, the list."""
    from rayscan.experiments import EXPERIMENTS, experiment_named

    if not rest or rest[0] in ("-h", "--help"):
        names = "\n".join(
            f"  {e.name:18} {e.title} ({e.source}){'; trains on labels' if e.reads_labels else ''}"
            for e in EXPERIMENTS.values()
        )
        sys.stdout.write(
            "usage: rayscan experiment NAME [RECIPE, else custom] --data DATA --out OUT [--seeds 3] ...\n\n"
            f"experiments:\n{names}\n"
        )
        return
    experiment, rest = experiment_named(rest[0]), rest[1:]
    named = bool(rest) and not rest[0].startswith("-")
    recipe, rest = recipe_named(rest[0] if named else "custom"), rest[1:] if named else rest
    default = ExperimentArguments(recipe=with_variants(recipe, rest), data=tyro.MISSING, out=tyro.MISSING)
    prog = f"rayscan experiment {experiment.name} {recipe.name}"
    asked = tyro.cli(ExperimentArguments, default=default, args=rest, prog=prog)
    from rayscan.run import require_clusters
    from rayscan.sections import require

    require_clusters(asked.recipe)
    require(asked.seeds >= 1, "seeds", ">= 1", asked.seeds)
    from rayscan.experiments.running import run_experiment
    from rayscan.stages.context import Sources
    from rayscan.storage import Place

    sources = Sources(absolute(asked.data), absolute(asked.eval_data), absolute(asked.labels))
    sys.stdout.write(run_experiment(experiment, asked.recipe, sources, Place(asked.out), seeds=asked.seeds))


def merge_command(rest: list[str]) -> None:
    """`rayscan merge RUN [--to C]`."""
    asked = tyro.cli(MergeArguments, args=rest, prog="rayscan merge")
    from rayscan.grouping import merge

    sys.stdout.write(merge(asked.run, to=asked.to, out=asked.out))


def consensus_command(rest: list[str]) -> None:
    """`rayscan consensus RUN RUN ... --out FILE`."""
    asked = tyro.cli(ConsensusArguments, args=rest, prog="rayscan consensus")
    from rayscan.grouping import vote

    sys.stdout.write(vote(asked.runs, asked.out))


STUDIES: dict[str, Callable[[list[str]], None]] = {
    "experiment": experiment_command,
    "merge": merge_command,
    "consensus": consensus_command,
}
