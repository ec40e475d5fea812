"""What a search for groupings is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rayscan.consensus.memory import Memory
from rayscan.consensus.readings import Reading
from rayscan.consensus.score import JointScore
from rayscan.consensus.space import Space
from rayscan.consensus.views import View, all_views


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
    _views: dict[int, list[View]] = field(default_factory=dict, repr=False, compare=False)

    def numbered(self) -> Iterator[tuple[int, Reading, Space]]:
        """Number, reading and space of each."""
        for number, (reading, space) in enumerate(zip(self.read, self.spaces, strict=True)):
            yield number, reading, space

    def views(self, number: int) -> list[View]:
        """All views of the space of a reading; made once, when first asked for."""
        if number not in self._views:
            self._views[number] = all_views(self.spaces[number], self.num_clusters, self.seed)
        return self._views[number]
