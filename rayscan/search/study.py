"""What to try next: Optuna's TPE over the space, told of everything that was tried before.

The study lives in memory. What outlives a killed search are the trials' own artifacts (`ledger`), from
which a new study is told the same; so there is no state file that could be torn.
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

ASK_AGAIN = 20
"""Proposals that were had before are refused so often; then the first that was not is taken."""
RANDOM_FIRST = 10
"""Trials drawn at random before TPE begins to model."""


@dataclass(frozen=True)
class Told:
    """A trial that has ended, as the sampler sees it."""

    values: Values
    value: float | None
    """Its score; None if it failed."""
    steps: dict[int, float] = field(default_factory=dict)
    """Values at the rungs it reached."""
    is_stopped: bool = False
    """Ended early."""


def distribution(axis: Axis) -> BaseDistribution:
    """An axis in Optuna's words."""
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
        told: Sequence[Told] = (),
        first: Iterable[Values] = (),
    ) -> None:
        """Begin, or go on.

        Args:
            axes: The space.
            seed: Of the sampler; moves on with the number of trials told, so that a search that goes on does
                not propose again what it proposed at its beginning.
            sampler: tpe models what was told; random does not.
            told: Trials that have ended.
            first: Values to propose before any others: trials that were cut off.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = {axis.path: distribution(axis) for axis in axes}
        seed = (seed * 1_000_003 + len(told)) % 2**32
        # Several trials run at once: the liar keeps them apart.
        chosen = (
            optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM_FIRST, constant_liar=True)
            if sampler == "tpe"
            else optuna.samplers.RandomSampler(seed=seed)
        )
        self._study = optuna.create_study(direction="maximize", sampler=chosen)
        self._open: dict[str, optuna.Trial] = {}
        self._axes = axes
        self._is_finite = capacity(axes) is not None
        self._seen = {_key(trial.values) for trial in told}
        self._first = list(first)
        for trial in told:
            self._study.add_trial(self._frozen(trial))

    def ask(self, name: str) -> dict[str, Any]:
        """Values of the next trial, by path; never the same twice where they can be counted."""
        if self._first:
            self._study.enqueue_trial(dict(self._first.pop(0)))
        trial = self._study.ask(self._space)
        for _ in range(ASK_AGAIN):
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

    def tell(self, name: str, told: Told) -> None:
        """A trial that was asked for has ended."""
        trial = self._open.pop(name)
        for step, value in told.steps.items():
            trial.report(value, step)
        state = _state(told)
        self._study.tell(trial, told.value if state is TrialState.COMPLETE else None, state=state)

    def _frozen(self, told: Told) -> optuna.trial.FrozenTrial:
        state = _state(told)
        return optuna.trial.create_trial(
            params=dict(told.values),
            distributions=self._space,
            value=told.value if state is TrialState.COMPLETE else None,
            state=state,
            intermediate_values=dict(told.steps),
        )


def _key(values: Values) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(values.items()))


def _state(told: Told) -> TrialState:
    if told.value is None:
        return TrialState.FAIL
    return TrialState.PRUNED if told.is_stopped else TrialState.COMPLETE
