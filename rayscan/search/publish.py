"""The results of a search for people: the table of trials, the best recipe, a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rayscan import parquet
from rayscan.report.search import Dimension, Row, SearchContent, render
from rayscan.run import recipe_to_json
from rayscan.search import stored_trials
from rayscan.search.axis import Axis
from rayscan.search.finalists import Finalist
from rayscan.search.stored_trials import Trial
from rayscan.search.trial import SearchSetup
from rayscan.search.vote import Vote


def publish(
    setup: SearchSetup, trials: Sequence[Trial], ranked: Sequence[Finalist], vote: Vote | None = None
) -> None:
    """Write `results.parquet`, `index.html` and, if there is a best one, `recipe.json`."""
    others = [run for finalist in ranked for run in finalist.trials[1:]]
    setup.out.write("results.parquet", parquet.encoded(stored_trials.table([*trials, *others], setup)))
    if ranked:
        best = setup.space.recipe(ranked[0].values)
        setup.out.write("recipe.json", recipe_to_json(best))
    setup.out.write("index.html", render(_content(setup, trials, ranked, vote)).encode())


def settings_text(values: Mapping[str, Any]) -> str:
    """Values on one line: `scan.entropy_weight 4.2, scan.num_neighbors 20`."""
    return ", ".join(f"{path} {value_text(value)}" for path, value in values.items())


def value_text(value: Any) -> str:
    """A value, short."""
    return f"{value:.4g}" if isinstance(value, float) else "none" if value is None else str(value)


def _content(
    setup: SearchSetup, trials: Sequence[Trial], ranked: Sequence[Finalist], vote: Vote | None
) -> SearchContent:
    base, index = setup.space.base, setup.inputs["index"]
    chosen = ranked[0].trials[0].name if ranked else None
    return SearchContent(
        recipe=base.name,
        num_clusters=base.clusters,
        num_images=int(index.facts["train"]),
        seed=base.seed,
        from_images=setup.from_images,
        dimensions=[_dimension(axis) for axis in setup.space.axes],
        rows=[_row(t, is_chosen=t.name == chosen and bool(t.name)) for t in trials],
        finalists=[
            (settings_text(f.values), f.mean, [t.score for t in f.trials], f.stability) for f in ranked
        ],
        vote=None if vote is None else (vote.score, vote.in_words()),
    )


def _dimension(axis: Axis) -> Dimension:
    names = tuple(value_text(c) for c in axis.choices)
    return Dimension(axis.path, axis.low, axis.high, axis.is_log, names if axis.kind == "choice" else None)


def _row(trial: Trial, *, is_chosen: bool) -> Row:
    facts = trial.facts
    return Row(
        status=trial.status,
        reason=str(facts.get("reason", "")),
        values={path: value for path, value in trial.values.items()},
        texts={path: value_text(value) for path, value in trial.values.items()},
        score=trial.score,
        nmi_nn=facts.get("nmi_nn"),
        cv_mi=facts.get("cv_mi"),
        balance=facts.get("balance"),
        seconds=facts.get("seconds"),
        is_chosen=is_chosen,
    )
