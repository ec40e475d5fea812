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
class StoredArray:
    """An array on its way to an actor, in the run's storage: every start of the actor reads it again.

    Ray keeps large arguments in the memory of one node, and does not promise them to a later start.
    """

    place: Place
    """Where the draft lies."""
    path: str
    """Below it."""

    def read(self) -> NDArray[Any]:
        """The array."""
        array: NDArray[Any] = np.load(BytesIO(self.place.read(self.path)), allow_pickle=False)
        return array


@contextmanager
def temporary_arrays(draft: Draft) -> Iterator[Callable[[str, NDArray[Any]], StoredArray]]:
    """Give a function that stores an array under a name; what it stored is deleted at the end."""
    stored: list[StoredArray] = []

    def store(name: str, array: NDArray[Any]) -> StoredArray:
        stored.append(StoredArray(draft.place, draft.write_array(f"{name}.npy", array).path))
        return stored[-1]

    try:
        yield store
    finally:
        for one in stored:
            one.place.delete(one.path)
