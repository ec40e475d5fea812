"""What an experiment found: a Parquet table, a Markdown table with mean and deviation, and a figure."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from rayscan import parquet
from rayscan.experiments.base import Experiment, Row
from rayscan.experiments.drawing import Point, draw
from rayscan.storage import Place

SCHEMA = pa.schema(
    [
        ("experiment", pa.string()),
        ("row", pa.string()),
        ("series", pa.string()),
        ("x", pa.float64()),
        ("seed", pa.int64()),
        ("split", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
    ]
)
COUNTS = ("confident",)
"""Metrics shown as they are; the others are shares, shown in percent."""


@dataclass
class Results:
    """Values of an experiment: row -> seed -> metric; and why rows were not run."""

    split: str = "eval"
    values: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)

    def add(self, row: str, seed: int, metrics: Mapping[str, float]) -> None:
        """Add the metrics of one run."""
        self.values.setdefault(row, {})[seed] = dict(metrics)

    def values_of(self, row: str, metric: str) -> list[float]:
        """The values of a metric over the seeds."""
        return [m[metric] for m in self.values.get(row, {}).values() if metric in m]


def write(
    experiment: Experiment, found: Results, place: Place, facts: Mapping[str, object], recipe_name: str
) -> str:
    """Write table.parquet, table.md, figure.svg and facts.json below `place`; returns the Markdown."""
    rows = [
        {
            "experiment": experiment.name,
            "row": row.name,
            "series": row.series,
            "x": row.x,
            "seed": seed,
            "split": found.split,
            "metric": metric,
            "value": float(value),
        }
        for row in experiment.rows
        for seed, metrics in found.values.get(row.name, {}).items()
        for metric, value in metrics.items()
    ]
    place.write("table.parquet", parquet.encoded(pa.Table.from_pylist(rows, SCHEMA)))
    text = markdown(experiment, found, facts, recipe_name)
    place.write("table.md", text.encode())
    place.write("figure.svg", figure(experiment, found).encode())
    place.write("facts.json", json.dumps(dict(facts), indent=2, sort_keys=True).encode())
    return text


def markdown(experiment: Experiment, found: Results, facts: Mapping[str, object], recipe_name: str) -> str:
    """The table with its source, what was run, and the paper's numbers beside."""
    seeds = sorted({seed for runs in found.values.values() for seed in runs})
    has_paper = any(recipe_name in row.paper for row in experiment.rows)
    paper = [f"paper ({experiment.metrics[0]})"] if has_paper else []
    heads = ["row", *experiment.metrics, "seeds", *paper]
    lines = [
        f"# {experiment.name}: {experiment.title}",
        "",
        f"Source: {experiment.source}. Split: {found.split}. Seeds: {', '.join(map(str, seeds)) or 'none'}.",
        "Mean +- sample standard deviation; percent but for counts.",
    ]
    if experiment.reads_labels:
        named = ", ".join(row.name for row in experiment.rows if row.reads_labels)
        lines += ["", f"**Labels were used in training** by: {named}."]
    if experiment.notes:
        lines += ["", experiment.notes]
    lines += ["", f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in experiment.rows:
        cells = [_cell(metric, found.values_of(row.name, metric)) for metric in experiment.metrics]
        beside = [row.paper.get(recipe_name, "")] if has_paper else []
        lines.append(f"| {' | '.join([row.name, *cells, _count(row, found), *beside])} |")
    lines += ["", "![figure](figure.svg)", ""]
    lines += [f"- {key}: {value}" for key, value in facts.items() if value != ""]
    return "\n".join(lines) + "\n"


def _count(row: Row, found: Results) -> str:
    return (
        f"not run: {found.not_run[row.name]}"
        if row.name in found.not_run
        else str(len(found.values.get(row.name, {})))
    )


def mean_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and the sample standard deviation of two and more."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def _cell(metric: str, values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean, std = mean_std(values)
    scale, digits = (1, 1) if metric in COUNTS else (100, 2)
    return f"{scale * mean:.{digits}f}" + ("" if std is None else f" +- {scale * std:.{digits}f}")


def figure(experiment: Experiment, found: Results) -> str:
    """The first metric as an SVG: lines over x, or bars."""
    metric = experiment.metrics[0]
    scale = 1 if metric in COUNTS else 100
    points = []
    for row in experiment.rows:
        values = [scale * v for v in found.values_of(row.name, metric)]
        if values:
            mean, std = mean_std(values)
            points.append(Point(row.name, row.series, row.x, mean, std or 0.0))
    unit = "" if metric in COUNTS else " (%)"
    return draw(f"{experiment.title} ({found.split})", points, experiment.x_label, f"{metric}{unit}")


def index_page(place: Place, experiments: Mapping[str, Experiment]) -> str:
    """Which experiments were run below `place`, and which were not, as Markdown."""
    lines = ["# Experiments", "", "| name | source | status |", "|---|---|---|"]
    for name, experiment in experiments.items():
        try:
            facts = json.loads(place.read(f"{name}/facts.json"))
            status = f"[run]({name}/table.md): {facts['recipe']}, {facts['seeds']} seeds, {facts['time']}"
            if facts.get("not run"):
                status += f"; not run: {facts['not run']}"
        except FileNotFoundError:
            status = "not run"
        lines.append(f"| {name} | {experiment.source} | {status} |")
    return "\n".join(lines) + "\n"
