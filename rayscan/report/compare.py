"""Several runs in one table: mean and standard deviation over seeds, SCAN beside k-means.

Runs of equal settings on equal images form a group, whatever their seed, report settings and machines;
groups are named by the settings in which they differ. A run that a person edited is a group by itself.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rayscan.artifacts import Artifact, digest
from rayscan.config import Recipe
from rayscan.errors import DataError
from rayscan.methods import METHODS
from rayscan.sections import flat, semantic
from rayscan.storage import Place

METRICS = ("acc", "acc_tr", "many_to_one", "top5", "nmi", "ami", "ari")
ROW_METRICS = (*METRICS, "hungarian_then_majority", "fowlkes_mallows")
"""Scores of a row; the text shows METRICS."""
SPLITS = ("eval", "train")
IGNORED = ("seed", "report")
"""Settings in which runs of one group may differ."""


class ScoredRun(Protocol):
    """The part of a run that is compared."""

    @property
    def place(self) -> Place:
        """Its `--out`."""

    @property
    def recipe(self) -> Recipe:
        """Its settings."""

    @property
    def edits(self) -> str:
        """What tells its edits from those of other runs; empty if it has none."""

    @property
    def scores(self) -> Mapping[str, Any]:
        """Its scores.json."""

    def artifact(self, stage: str) -> Artifact:
        """The result of a stage."""


def compare(runs: Sequence[ScoredRun], *, as_json: bool = False, as_table1: bool = False) -> str:
    """Return the table as text, or its rows as JSON; or as Table 1 of arXiv 2008.10312.

    Raises:
        DataError: there is no run, or two runs of one group have the same seed.
    """
    rows = compare_rows(runs)
    if as_table1:
        return _table1(rows)
    return json.dumps(rows, indent=2) if as_json else _table(rows)


def compare_rows(runs: Sequence[ScoredRun]) -> list[dict[str, Any]]:
    """Return one row per group, split and method.

    Returns:
        Rows of group, split, method, runs, seeds, and `scores`: metric -> {mean, std}; std is the sample
        standard deviation, None for a single run.

    Raises:
        DataError: there is no run, or two runs of one group have the same seed.
    """
    if not runs:
        raise DataError(
            "there is nothing to compare", expected="at least one run", fix="pass the --out of runs"
        )
    groups: dict[str, list[ScoredRun]] = {}
    for run in runs:
        groups.setdefault(digest([_settings(run), run.artifact("index").identity, run.edits]), []).append(run)
    for group in groups.values():
        _require_seeds(group)
    names = _names([group[0] for group in groups.values()])
    return [
        row for name, group in zip(names, groups.values(), strict=True) for row in _group_rows(name, group)
    ]


def _group_rows(name: str, group: Sequence[ScoredRun]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    scores = [run.scores["splits"] for run in group]
    for split in SPLITS:
        for method in METHODS:
            scored = [
                one
                for s in scores
                if split in s and method in s[split]["methods"]
                for one in s[split]["methods"][method].get("seeds", [s[split]["methods"][method]])
            ]
            if not scored:
                continue
            rows.append(
                {
                    "group": name,
                    "split": split,
                    "method": method,
                    "runs": len(scored),
                    "seeds": sorted(run.recipe.seed for run in group),
                    "scores": {
                        m: _mean_std([s[m] for s in scored])
                        for m in ROW_METRICS
                        if all(m in s for s in scored)
                    },
                }
            )
    return rows


def _mean_std(values: Sequence[float]) -> dict[str, float | None]:
    return {"mean": statistics.fmean(values), "std": statistics.stdev(values) if len(values) > 1 else None}


def _settings(run: ScoredRun) -> dict[str, Any]:
    tree: dict[str, Any] = semantic(run.recipe)
    return {key: value for key, value in tree.items() if key not in IGNORED}


def _require_seeds(group: Sequence[ScoredRun]) -> None:
    seen: dict[int, str] = {}
    for run in group:
        if run.recipe.seed in seen:
            raise DataError(
                "two runs of the same settings have the same seed: their deviation would mean nothing",
                expected="one run per seed",
                got=f"seed {run.recipe.seed} twice",
                where=f"{seen[run.recipe.seed]} and {run.place.uri}",
                fix="leave one of them out",
            )
        seen[run.recipe.seed] = run.place.uri


def _names(firsts: Sequence[ScoredRun]) -> list[str]:
    """Recipe, then the settings in which groups differ, then the images if nothing else differs."""
    settings = [flat(_settings(run)) for run in firsts]
    differing = sorted(
        {k for tree in settings for k in tree if any(tree.get(k) != other.get(k) for other in settings)}
    )
    shown = [key for key in differing if key != "name"]
    names = [
        " ".join(
            [
                run.recipe.name,
                *(f"{k}={tree.get(k)}" for k in shown),
                *([f"edited={run.edits}"] * bool(run.edits)),
            ]
        )
        for run, tree in zip(firsts, settings, strict=True)
    ]
    images = [run.artifact("index").identity[:8] for run in firsts]
    return [
        f"{name} images={own}" if names.count(name) > 1 else name
        for name, own in zip(names, images, strict=True)
    ]


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return aligned text, scores in percent as mean or mean+-deviation."""
    lines = [["group", "split", "method", "runs", *METRICS]]
    for row in rows:
        cells = [_cell(row["scores"].get(metric)) for metric in METRICS]
        lines.append([row["group"], row["split"], row["method"], str(row["runs"]), *cells])
    return _aligned(lines, left=3)


def _aligned(lines: Sequence[Sequence[str]], left: int) -> str:
    """Align columns, the first `left` of them to the left."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    aligned = (
        "  ".join(
            c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
    return "\n".join(line.rstrip() for line in aligned)


def _table1(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return ACC, ARI, AMI, NMI in percent, mean +- deviation, as Table 1 of arXiv 2008.10312 has them.

    ACC is that of the mapping fitted on train labels, scored on the eval split, one to one and then greedily
    for clusters left over; where a run has no eval split, the mapping and the scores are those of train.
    """
    splits = {row["group"]: row["split"] for row in reversed(rows)}  # eval stands before train
    lines = [["Method", "ACC", "ARI", "AMI", "NMI"]]
    for row in rows:
        if row["split"] != splits[row["group"]]:
            continue
        scores = row["scores"]
        acc = next((scores[m] for m in ("acc_tr", "hungarian_then_majority", "acc") if m in scores), None)
        cells = [
            _cell(score).replace("+-", " +- ") for score in (acc, *map(scores.get, ("ari", "ami", "nmi")))
        ]
        lines.append([f"{row['method']} ({row['group']})", *cells])
    return _aligned(lines, left=1)


def _cell(score: Mapping[str, float | None] | None) -> str:
    if score is None or score["mean"] is None:
        return "-"
    mean = f"{100 * score['mean']:.2f}"
    return mean if score["std"] is None else f"{mean}+-{100 * score['std']:.2f}"
