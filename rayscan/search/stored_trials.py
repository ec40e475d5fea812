"""Trials as they lie on storage: what has ended, what was interrupted, and the table of both.

<out>/search/
  trial-<hash12>/      one artifact a trial
  results.parquet      a row per trial
  recipe.json          the best settings, for `rayscan run`
  index.html           score against each setting
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from rayscan.artifacts import Draft, find
from rayscan.search.study import Outcome
from rayscan.search.trial import STAGE, STARTED, SearchSetup

NUMBERS = (
    "score",
    "nmi_nn",
    "cv_mi",
    "balance",
    "largest_share",
    "used_clusters",
    "scan_val_loss",
    "heldout_loss",
    "train_loss",
    "confident",
    "selflabel_epochs",
    "selflabel_kept",
    "seconds",
)
"""Facts that become columns."""


@dataclass(frozen=True)
class Trial:
    """A trial that has ended."""

    name: str
    """Its directory."""
    values: Mapping[str, Any]
    seed: int
    facts: Mapping[str, Any]

    @property
    def status(self) -> str:
        """finished, rejected, stopped or failed."""
        return str(self.facts["status"])

    @property
    def score(self) -> float | None:
        """Its score, if it was trained to the end."""
        score = self.facts.get("score")
        return None if score is None else float(score)

    def outcome(self) -> Outcome:
        """The outcome for the sampler: what was rejected ranks below everything that was not."""
        steps = {int(k): float(v) for k, v in self.facts.get("rungs", {}).items()}
        if self.status == "finished":
            return Outcome(self.values, self.score, steps)
        if self.status == "rejected":
            return Outcome(self.values, (self.score or 0.0) - 1.0, steps)
        return Outcome(
            self.values, min(steps.values(), default=None), steps, is_stopped=self.status == "stopped"
        )


def find_trial(setup: SearchSetup, values: Mapping[str, Any], seed: int) -> Trial | None:
    """The trial with these values and seed, if it has ended."""
    step = setup.step(values, seed)
    found = find(setup.out.child(step.directory), step)
    return None if found is None else Trial(step.directory, dict(values), seed, found.facts)


def commit_stopped(
    setup: SearchSetup, values: Mapping[str, Any], seed: int, facts: Mapping[str, Any]
) -> Trial:
    """Store a trial that was stopped early."""
    step = setup.step(values, seed)
    done = Draft(setup.out, step).commit({}, facts=facts)
    setup.run.delete(f".work/search/{step.directory}")
    return Trial(step.directory, dict(values), seed, done.facts)


def read_trials(setup: SearchSetup) -> tuple[list[Trial], list[dict[str, Any]]]:
    """All trials of this search that have ended, any seed, and the values of interrupted ones."""
    key = setup.key
    ended, interrupted = [], []
    for name in setup.out.names():
        if not name.startswith(f"{STAGE}-"):
            continue
        place = setup.out.child(name)
        note = _json(place.read, "manifest.json")
        if note is not None and note["config"]["search"] == key:
            ended.append(Trial(name, note["config"]["values"], note["config"]["seed"], note["facts"]))
        begun = None if note is not None else _json(place.read, f"parts/{STARTED}.json")
        if begun is not None:
            begun = begun["facts"]
            if begun["search"] == key and begun["seed"] == setup.space.base.seed:
                interrupted.append(begun["values"])
    contains = setup.space.contains
    return [t for t in ended if contains(t.values)], [values for values in interrupted if contains(values)]


def _json(read_file: Any, name: str) -> Any:
    """A JSON file of a trial; None if it is not there or was not written to its end."""
    try:
        return json.loads(read_file(name))
    except (FileNotFoundError, ValueError):
        return None


def table(trials: Sequence[Trial], setup: SearchSetup) -> pa.Table:
    """A row per trial, best score first: status, seed, a column per setting, the facts."""
    rows = sorted(trials, key=lambda t: (t.status != "finished", -(t.score or 0.0), t.name))
    columns: dict[str, pa.Array] = {
        "trial": pa.array([t.name for t in rows], pa.string()),
        "status": pa.array([t.status for t in rows], pa.string()),
        "reason": pa.array([t.facts.get("reason", "") for t in rows], pa.string()),
        "seed": pa.array([t.seed for t in rows], pa.int64()),
    }
    for axis in setup.space.axes:
        columns[axis.path] = pa.array([t.values[axis.path] for t in rows])
    for name in NUMBERS:
        columns[name] = pa.array([_number(t.facts.get(name)) for t in rows], pa.float64())
    return pa.table(columns)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
