"""Arrays that an actor needs again at every start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayscan.artifacts import Draft
from rayscan.storage import Place


@dataclass(frozen=True)
class Handed:
    """An array on its way to an actor, in the run's storage: every start of the actor reads it again.

    Ray keeps large arguments in the memory of one node, and does not promise them to a later start.
    """

    place: Place
    """Of the draft."""
    path: str
    """Below it."""

    def read(self) -> NDArray[Any]:
        """The array."""
        array: NDArray[Any] = np.load(BytesIO(self.place.read(self.path)), allow_pickle=False)
        return array


@contextmanager
def handing(draft: Draft) -> Iterator[Callable[[str, NDArray[Any]], Handed]]:
    """Gives a function (name, array) -> `Handed`; what it handed out is deleted at the end."""
    handed: list[Handed] = []

    def hand(name: str, array: NDArray[Any]) -> Handed:
        handed.append(Handed(draft.place, draft.write_array(f"{name}.npy", array).path))
        return handed[-1]

    try:
        yield hand
    finally:
        for one in handed:
            one.place.delete(one.path)
