"""Commands that read finished runs and start no stage; what `--plan` and `status` print."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from rayscan.cli.arguments import RunUri, RunUris
from rayscan.console.units import duration, size

if TYPE_CHECKING:
    from rayscan.config import Recipe
    from rayscan.costs import StagePlan
    from rayscan.run import Run
    from rayscan.storage import Place


def status(run: RunUri) -> None:
    """What is done, what it took, what is left.

    Args:
        run: The --out of the run.
    """
    from rayscan.run import Run

    sys.stdout.write("".join(f"{line}\n" for line in status_lines(Run(run))))


def export(
    run: RunUri,
    out: Positional[Annotated[str, arg(metavar="OUT")]],
    *,
    to: Annotated[str, arg(metavar="FORMAT")],
    force: bool = False,
) -> None:
    """The clusters of a run in a format of other programs.

    Args:
        run: The --out of a run or of a prediction.
        out: Where the file or directory goes.
        to: One of the formats; `rayscan export` lists them.
        force: Replace what is at OUT; without it nothing is replaced.
    """
    from rayscan.exports import export
    from rayscan.run import Run

    sys.stdout.write(export(Run(run), to, out, force=force) + "\n")


def view(run: RunUri, *, port: int | None = None, browser: bool = True) -> None:
    """The map of a run in the browser: pictures, clusters, neighbors (rayscan[view]).

    Args:
        run: The --out of a run or of a prediction.
        port: On this machine alone, 127.0.0.1; none takes 5055 or the next that is free, 0 any.
        browser: Open the page; without it the address is printed only.
    """
    from rayscan.viewer import view

    view(run, port, opens_browser=browser, say=lambda line: print(line, flush=True))


def compare(runs: RunUris, *, json: bool = False, table1: bool = False) -> None:
    """A table of runs: mean and deviation over seeds, k-means beside.

    Args:
        runs: The --out of each run.
        json: Print JSON.
        table1: Print ACC, ARI, AMI, NMI as Table 1 of arXiv 2008.10312 has them.
    """
    from rayscan.report.compare import compare
    from rayscan.run import Run

    sys.stdout.write(compare([Run(uri) for uri in runs], as_json=json, as_table1=table1) + "\n")


def howmany(run: RunUri) -> None:
    """How many clusters the features of a run suggest, and pictures at some numbers.

    Args:
        run: The --out of a run that has embeddings and neighbors, as after `rayscan run ... --until mine`.
    """
    from rayscan.howmany import write_howmany

    sys.stdout.write(write_howmany(run))


def merge(run: RunUri, *, to: int | None = None, out: str | None = None) -> None:
    """Which clusters would join, by the links between their images' neighbors.

    Args:
        run: The --out of the run.
        to: Also write the assignments with so many clusters.
        out: Parquet file for them; none takes assignments-C.parquet in the run.
    """
    from rayscan.grouping import merge

    sys.stdout.write(merge(run, to=to, out=out))


def consensus(runs: RunUris, *, out: str) -> None:
    """One grouping from several seeds, or from the heads of one run.

    Args:
        runs: The --out of each run; of the same images.
        out: Parquet file: gid, cluster, agreement.
    """
    from rayscan.grouping import write_consensus

    sys.stdout.write(write_consensus(runs, out))


def feature_lines(recipe: Recipe) -> Iterator[str]:
    """Yield what has to be known of each space of features that is not trained here."""
    from rayscan.report.features import feature_note
    from rayscan.spaces import OWN
    from rayscan.training.spaces import told_of_spaces

    yield from (feature_note(told) for told in told_of_spaces(recipe) if told["kind"] != OWN)


def plan_lines(planned: Iterable[StagePlan]) -> Iterator[str]:
    """Yield a line per stage, and one with the time that is left in all."""
    total, unknown, is_counted = 0.0, [], True
    for stage in planned:
        is_counted = is_counted and (stage.is_reused or stage.stage != "index")
        costs = []
        if not stage.is_reused:
            costs = _costs(stage)
            total += stage.seconds or 0.0
            unknown += [stage.stage] if stage.seconds is None else []
        beside = f"  [{', '.join(costs)}]" if costs else ""
        yield f"{stage.stage:10} {'reused' if stage.is_reused else 'run':7} {stage.why}{beside}"
    if not is_counted:
        yield "costs are told once the images are counted: `rayscan index DATA` does only that"
    if total:
        rest = f", without {', '.join(unknown)}, of which no rate is known" if unknown else ""
        yield f"left: about {duration(total)} at the rate of former runs{rest}"


def _costs(stage: StagePlan) -> list[str]:
    if stage.cost is None:
        return []
    costs = [f"{stage.cost.work:,.0f} images" if stage.stage != "mine" else f"{stage.cost.work:,.0f} pairs"]
    if stage.cost.storage is not None:
        costs.append(f"{size(stage.cost.storage)} on storage")
    if stage.cost.memory is not None:
        costs.append(f"{size(stage.cost.memory)} of memory a process")
    if stage.seconds is not None:
        costs.append(f"about {duration(stage.seconds)}")
    return costs


def status_lines(run: Run) -> Iterator[str]:
    """Yield a line per stage: what it took, or how far it is; reads storage alone."""
    from rayscan import pipeline
    from rayscan.context import Sources
    from rayscan.lock import holder
    from rayscan.out_kinds import PREDICTION
    from rayscan.run import recorded_stages

    held = holder(run.place)
    yield f"{run.place.uri}: recipe {run.record['recipe']}, {f'running ({held})' if held else 'not running'}"
    records = recorded_stages(run.place)
    if run.kind == PREDICTION:
        yield from _prediction_lines(run, records)
        return
    left = []
    for stage in pipeline.plan(run.asked, Sources(**run.record["sources"]), run.place):
        if stage.is_reused:
            record = records.get(stage.stage, {})
            yield f"  {stage.stage:10} done  {took(record)}, {_bytes(run.place, stage.why)}"
        else:
            so_far = "" if stage.directory is None else unfinished(run.place, stage.directory)
            yield f"  {stage.stage:10} {'begun' if so_far else 'left '} {so_far or stage.why}"
            left.append(stage)
    if not left:
        yield f"everything is done; report: {run.report}"
        return
    yield from (line for line in plan_lines(left) if line.startswith("left:"))
    yield "the same command goes on from here" if not held else "a run is at work on it"


def _prediction_lines(run: Run, records: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Lines of a prediction, which has those stages alone that its command ran."""
    for name, record in records.items():
        yield f"  {name:10} done  {took(record)}, {_bytes(run.place, record['directory'])}"
    is_done = "report" in records
    yield f"everything is done; report: {run.report}" if is_done else "the same command goes on from here"


def took(record: Mapping[str, Any]) -> str:
    """Return time and rate of a stage as text, from the run's record."""
    seconds = record.get("did", None if record.get("reused") else record.get("seconds"))
    if seconds is None:
        return "?"
    rate = f", {record['work'] / seconds:,.4g}/s" if record.get("work") and seconds > 0 else ""
    return f"in {duration(seconds)}{rate}"


def _bytes(place: Place, directory: str) -> str:
    from rayscan.artifacts import load

    return f"{size(sum(entry.size for entry in load(place.child(directory)).files.values()))}"


def unfinished(place: Place, directory: str) -> str:
    """Return how far a stage is as text: its finished parts, its newest checkpoints; empty if not begun."""
    parts = [n for n in place.child(directory, "parts").names() if n.endswith(".json")]
    found = [f"{len(parts)} parts finished"] if parts else []
    work = place.child(".work", directory)
    for name, steps in {"": work.names(), "heads": work.child("heads").names()}.items():
        steps_at = [int(match[1]) for step in steps if (match := re.match(r"step-(\d+)-", step))]
        if steps_at:
            found.append(f"checkpoint{' of the ' + name if name else ''} at step {max(steps_at):,}")
    return ", ".join(found)
