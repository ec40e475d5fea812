"""What Tune tells of a trial's end, once or again, reaches the proposer once."""

from __future__ import annotations

from typing import Any

from rayscan.fleet.tune import Ended, _Asking


class Asked:
    """A proposer that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Ended]] = []

    def ask(self, name: str) -> dict[str, Any]:
        return {"x": len(name)}

    def end(self, name: str, ended: Ended) -> None:
        self.told.append((name, ended))


def test_a_process_that_dies_after_its_last_result_does_not_end_its_trial_again() -> None:
    proposer = Asked()
    door = _Asking(proposer)
    assert door.suggest("abc") == {"x": 3}
    door.on_trial_complete("abc", {"is_whole": True, "reason": "", "rung": 1, "value": 0.5})
    door.on_trial_complete("abc", error=True)
    assert [(name, ended.how, ended.reason) for name, ended in proposer.told] == [("abc", "whole", "")]


def test_a_process_that_dies_before_its_last_result_has_failed() -> None:
    proposer = Asked()
    door = _Asking(proposer)
    door.suggest("abc")
    door.on_trial_result("abc", {"rung": 1, "value": 0.5})
    door.on_trial_complete("abc", error=True)
    assert [ended.how for _, ended in proposer.told] == ["failed"]
