"""Trials as they lie on storage: what has ended, what was cut off, and the table of both.

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
from rayscan.search.study import Told
from rayscan.search.trial import STAGE, STARTED, Shared

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

    def told(self) -> Told:
        """As the sampler shall see it: what was rejected ranks below everything that was not."""
        steps = {int(k): float(v) for k, v in self.facts.get("rungs", {}).items()}
        if self.status == "finished":
            return Told(self.values, self.score, steps)
        if self.status == "rejected":
            return Told(self.values, (self.score or 0.0) - 1.0, steps)
        return Told(
            self.values, min(steps.values(), default=None), steps, is_stopped=self.status == "stopped"
        )


def look_up(shared: Shared, values: Mapping[str, Any], seed: int) -> Trial | None:
    """The trial with these values and seed, if it has ended."""
    step = shared.step(values, seed)
    found = find(shared.out.child(step.directory), step)
    return None if found is None else Trial(step.directory, dict(values), seed, found.facts)


def end_early(shared: Shared, values: Mapping[str, Any], seed: int, facts: Mapping[str, Any]) -> Trial:
    """Note a trial that did not come to its end by itself."""
    step = shared.step(values, seed)
    done = Draft(shared.out, step).commit({}, facts=facts)
    shared.run.delete(f".work/search/{step.directory}")
    return Trial(step.directory, dict(values), seed, done.facts)


def read(shared: Shared) -> tuple[list[Trial], list[dict[str, Any]]]:
    """All trials of this search that have ended, any seed, and the values of those that were cut off."""
    key = shared.key
    ended, cut = [], []
    for name in shared.out.names():
        if not name.startswith(f"{STAGE}-"):
            continue
        place = shared.out.child(name)
        note = _json(place.read, "manifest.json")
        if note is not None and note["config"]["search"] == key:
            ended.append(Trial(name, note["config"]["values"], note["config"]["seed"], note["facts"]))
        begun = None if note is not None else _json(place.read, f"parts/{STARTED}.json")
        if begun is not None:
            begun = begun["facts"]
            if begun["search"] == key and begun["seed"] == shared.space.base.seed:
                cut.append(begun["values"])
    holds = shared.space.holds
    return [t for t in ended if holds(t.values)], [values for values in cut if holds(values)]


def _json(read_file: Any, name: str) -> Any:
    """A JSON file of a trial; None if it is not there or was not written to its end."""
    try:
        return json.loads(read_file(name))
    except (FileNotFoundError, ValueError):
        return None


def table(trials: Sequence[Trial], shared: Shared) -> pa.Table:
    """A row per trial, best score first: status, seed, a column per setting, the facts."""
    rows = sorted(trials, key=lambda t: (t.status != "finished", -(t.score or 0.0), t.name))
    columns: dict[str, pa.Array] = {
        "trial": pa.array([t.name for t in rows], pa.string()),
        "status": pa.array([t.status for t in rows], pa.string()),
        "reason": pa.array([t.facts.get("reason", "") for t in rows], pa.string()),
        "seed": pa.array([t.seed for t in rows], pa.int64()),
    }
    for axis in shared.space.axes:
        columns[axis.path] = pa.array([t.values[axis.path] for t in rows])
    for name in NUMBERS:
        columns[name] = pa.array([_number(t.facts.get(name)) for t in rows], pa.float64())
    return pa.table(columns)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
