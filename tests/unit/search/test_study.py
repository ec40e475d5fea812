"""What the sampler is told and asked: cut-off trials come first, rejected ones repel, nothing is repeated."""

from __future__ import annotations

import numpy as np

from rayscan.search.axis import parse_axis
from rayscan.search.study import STARTUP_TRIALS, Outcome, Study, capacity, combinations

AXES = [parse_axis("scan.entropy_weight=1:100:log"), parse_axis("scan.num_neighbors=5,10,20")]
WEIGHT, K = "scan.entropy_weight", "scan.num_neighbors"


def test_values_lie_in_the_space_and_repeat_with_the_seed() -> None:
    drawn = [Study(AXES, seed=seed, sampler="random").ask("a") for seed in (3, 3, 4)]
    assert drawn[0] == drawn[1] != drawn[2]
    study = Study(AXES, seed=0, sampler="random")
    many = [study.ask(str(i)) for i in range(200)]
    assert all(1 <= v[WEIGHT] <= 100 and v[K] in (5, 10, 20) for v in many)
    assert {v[K] for v in many} == {5, 10, 20}
    below = np.mean([v[WEIGHT] < 10 for v in many])  # even in the logarithm: half of them, 3.5 % deviation
    assert 0.36 < below < 0.64


def test_cut_off_trials_come_first_and_once() -> None:
    cut = [{WEIGHT: 2.5, K: 10}, {WEIGHT: 50.0, K: 5}]
    study = Study(AXES, seed=0, first=cut)
    assert [study.ask("a"), study.ask("b")] == cut
    assert study.ask("c") not in cut


def test_a_search_that_goes_on_does_not_begin_again() -> None:
    study = Study(AXES, seed=0, sampler="random")
    first = [study.ask(str(i)) for i in range(4)]
    outcomes = [Outcome(values, 0.5) for values in first]
    later = Study(AXES, seed=0, sampler="random", outcomes=outcomes)
    assert all(later.ask(str(i)) not in first for i in range(4))


def test_tpe_goes_where_the_score_is_and_away_from_what_was_rejected() -> None:
    """The best of many told trials lie near weight 3; those above 30 were rejected."""
    rng = np.random.default_rng(0)
    outcomes = []
    for _ in range(60):
        weight = float(10 ** rng.uniform(0, 2))
        score = 1 - abs(np.log10(weight) - np.log10(3))
        outcomes.append(Outcome({WEIGHT: weight, K: int(rng.choice([5, 10, 20]))}, score - 2 * (weight > 30)))
    assert len(outcomes) > STARTUP_TRIALS
    asked = Study(AXES, seed=0, outcomes=outcomes)
    weights = []
    for i in range(20):
        values = asked.ask(str(i))
        weights.append(values[WEIGHT])
        asked.tell(str(i), Outcome(values, 1 - abs(np.log10(values[WEIGHT]) - np.log10(3))))
    assert np.mean([1 <= w <= 10 for w in weights]) > 0.8  # uniform draws: 0.5
    assert sum(w > 30 for w in weights) <= 1


def test_stopped_and_failed_trials_are_taken() -> None:
    study = Study(AXES, seed=1)
    ends = [({1: 0.2}, None), ({1: 0.2, 3: 0.3}, 0.3), ({}, None)]
    for i, (steps, value) in enumerate(ends):
        values = study.ask(str(i))
        study.tell(str(i), Outcome(values, value, steps, is_stopped=value is not None))
    outcomes = [
        Outcome({WEIGHT: 2.0, K: 5}, None),
        Outcome({WEIGHT: 3.0, K: 5}, 0.2, {1: 0.2}, is_stopped=True),
    ]
    assert Study(AXES, seed=1, outcomes=outcomes).ask("a")[K] in (5, 10, 20)


def test_a_space_that_can_be_counted_is_gone_through_without_repeats() -> None:
    axes = [parse_axis("scan.num_neighbors=5,10,20"), parse_axis("scan.num_heads=1:4")]
    assert capacity(axes) == 12
    assert len(list(combinations(axes))) == 12
    study = Study(axes, seed=0, outcomes=[Outcome({"scan.num_neighbors": 5, "scan.num_heads": 2}, 0.5)])
    seen = {(5, 2)}
    for i in range(11):
        values = study.ask(str(i))
        study.tell(str(i), Outcome(values, 0.1 * i))
        seen.add((values["scan.num_neighbors"], values["scan.num_heads"]))
    assert len(seen) == 12
    assert capacity(AXES) is None
