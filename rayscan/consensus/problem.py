"""What a search for groupings is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rayscan.consensus.memory import Memory
from rayscan.consensus.readings import Reading
from rayscan.consensus.score import JointScore
from rayscan.consensus.space import Space


@dataclass(frozen=True)
class Problem:
    """Rows in all their spaces, and how groupings of them are judged."""

    read: Sequence[Reading]
    """Readings of the features."""
    spaces: Sequence[Space]
    """One of each reading."""
    score: JointScore
    """Of groupings; a search sets its weights."""
    num_clusters: int
    """C."""
    seed: int
    """Of every random number."""
    memory: Memory
    """Of candidates found before."""

    def numbered(self) -> Iterator[tuple[int, Reading, Space]]:
        """Number, reading and space of each."""
        for number, (reading, space) in enumerate(zip(self.read, self.spaces, strict=True)):
            yield number, reading, space
