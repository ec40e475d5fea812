"""What a search for groupings has found so far: one that was killed goes on from there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from rayscan.consensus.candidates import Candidate


class Memory(Protocol):
    """Where candidates are kept, by the name of the step that finds them."""

    def recall(self, name: str) -> list[Candidate] | None:
        """What an earlier attempt kept under a name; None if it did not get there."""

    def keep(self, name: str, candidates: Sequence[Candidate]) -> None:
        """Keep what a step has found."""


class Forgetful:
    """Keeps nothing: every search begins anew."""

    def recall(self, name: str) -> list[Candidate] | None:
        """None: nothing was kept."""

    def keep(self, name: str, candidates: Sequence[Candidate]) -> None:
        """Do nothing."""


FORGETFUL = Forgetful()


def found_once(memory: Memory, name: str, find: Callable[[], list[Candidate]]) -> list[Candidate]:
    """What was kept under a name, else what is found, which is kept then."""
    known = memory.recall(name)
    if known is None:
        known = find()
        memory.keep(name, known)
    return known
