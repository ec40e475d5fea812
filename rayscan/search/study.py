"""What to try next: Optuna's TPE over the space, with the outcomes of all trials before.

The study lives in memory. What outlives a killed search are the trials' own artifacts (`stored_trials`),
whose outcomes a new study is given; so there is no state file that could be torn.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from rayscan.search.axis import Axis
from rayscan.search.space import Values

MAX_REPEATS = 20
"""How often a repeated proposal is drawn again; then the first combination not yet tried is taken."""
STARTUP_TRIALS = 10
"""Trials drawn at random before TPE begins to model (Optuna's n_startup_trials)."""


@dataclass(frozen=True)
class Outcome:
    """A trial that has ended, as the sampler sees it (Optuna's FrozenTrial)."""

    values: Values
    value: float | None
    """Its score; None if it failed."""
    steps: dict[int, float] = field(default_factory=dict)
    """Values at the rungs it reached."""
    is_stopped: bool = False
    """Ended early."""


def distribution(axis: Axis) -> BaseDistribution:
    """The Optuna distribution of an axis."""
    if axis.kind == "choice":
        return CategoricalDistribution(axis.choices)
    if axis.kind == "int":
        return IntDistribution(int(axis.low), int(axis.high), log=axis.is_log)
    return FloatDistribution(axis.low, axis.high, log=axis.is_log)


def capacity(axes: Sequence[Axis]) -> int | None:
    """How many trials the space holds, if they can be counted."""
    grids = [axis.grid() for axis in axes]
    return math.prod(len(g) for g in grids if g is not None) if None not in grids else None


def combinations(axes: Sequence[Axis]) -> Iterator[dict[str, Any]]:
    """Every trial of a space that can be counted."""
    for values in itertools.product(*(axis.grid() or () for axis in axes)):
        yield {axis.path: value for axis, value in zip(axes, values, strict=True)}


class Study:
    """Proposes values and learns from what they gave."""

    def __init__(
        self,
        axes: Sequence[Axis],
        *,
        seed: int,
        sampler: Literal["tpe", "random"] = "tpe",
        outcomes: Sequence[Outcome] = (),
        first: Iterable[Values] = (),
    ) -> None:
        """Begin, or go on.

        Args:
            axes: The space.
            seed: Seed of the sampler; moves on with the number of outcomes, so that a resumed search does not
                propose again what it proposed at its beginning.
            sampler: tpe models the outcomes; random does not.
            outcomes: Trials that have ended.
            first: Values to propose before any others: interrupted trials.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = {axis.path: distribution(axis) for axis in axes}
        seed = (seed * 1_000_003 + len(outcomes)) % 2**32
        # Several trials run at once: the liar keeps them apart.
        chosen = (
            optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, constant_liar=True)
            if sampler == "tpe"
            else optuna.samplers.RandomSampler(seed=seed)
        )
        self._study = optuna.create_study(direction="maximize", sampler=chosen)
        self._open: dict[str, optuna.Trial] = {}
        self._axes = axes
        self._is_finite = capacity(axes) is not None
        self._seen = {_key(trial.values) for trial in outcomes}
        self._first = list(first)
        for trial in outcomes:
            self._study.add_trial(self._frozen(trial))

    def ask(self, name: str) -> dict[str, Any]:
        """Values of the next trial, by path; never the same twice where they can be counted."""
        if self._first:
            self._study.enqueue_trial(dict(self._first.pop(0)))
        trial = self._study.ask(self._space)
        for _ in range(MAX_REPEATS):
            if not self._is_finite or _key(trial.params) not in self._seen:
                break
            self._study.tell(trial, state=TrialState.FAIL)
            trial = self._study.ask(self._space)
        else:
            unseen = (values for values in combinations(self._axes) if _key(values) not in self._seen)
            self._study.tell(trial, state=TrialState.FAIL)
            self._study.enqueue_trial(next(unseen, trial.params))
            trial = self._study.ask(self._space)
        self._seen.add(_key(trial.params))
        self._open[name] = trial
        return dict(trial.params)

    def tell(self, name: str, outcome: Outcome) -> None:
        """A trial that was asked for has ended."""
        trial = self._open.pop(name)
        for step, value in outcome.steps.items():
            trial.report(value, step)
        state = _state(outcome)
        self._study.tell(trial, outcome.value if state is TrialState.COMPLETE else None, state=state)

    def _frozen(self, outcome: Outcome) -> optuna.trial.FrozenTrial:
        state = _state(outcome)
        return optuna.trial.create_trial(
            params=dict(outcome.values),
            distributions=self._space,
            value=outcome.value if state is TrialState.COMPLETE else None,
            state=state,
            intermediate_values=dict(outcome.steps),
        )


def _key(values: Values) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(values.items()))


def _state(outcome: Outcome) -> TrialState:
    if outcome.value is None:
        return TrialState.FAIL
    return TrialState.PRUNED if outcome.is_stopped else TrialState.COMPLETE
