"""What Tune tells of a trial's end, once or again, reaches the algorithm once."""

from __future__ import annotations

from typing import Any

from rayscan.fleet.tune import TrialResult, _Searcher


class Asked:
    """A algorithm that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, TrialResult]] = []

    def suggest(self, trial_id: str) -> dict[str, Any]:
        return {"x": len(trial_id)}

    def complete(self, trial_id: str, result: TrialResult) -> None:
        self.told.append((trial_id, result))


def test_a_process_that_dies_after_its_last_result_does_not_end_its_trial_again() -> None:
    algorithm = Asked()
    door = _Searcher(algorithm)
    assert door.suggest("abc") == {"x": 3}
    door.on_trial_complete("abc", {"is_completed": True, "reason": "", "rung": 1, "value": 0.5})
    door.on_trial_complete("abc", error=True)
    assert [(name, ended.status, ended.reason) for name, ended in algorithm.told] == [
        ("abc", "completed", "")
    ]


def test_a_process_that_dies_before_its_last_result_has_failed() -> None:
    algorithm = Asked()
    door = _Searcher(algorithm)
    door.suggest("abc")
    door.on_trial_result("abc", {"rung": 1, "value": 0.5})
    door.on_trial_complete("abc", error=True)
    assert [ended.status for _, ended in algorithm.told] == ["failed"]
