"""Clusters after some operations: which are left, under what names, and where each image of old is now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from rayscan.assignments import WASTE
from rayscan.edits.operations import Create, Join, Move, Operation, Rename, Restore, Waste
from rayscan.errors import DataError


class EditedClusters:
    """Clusters that operations change one after the other.

    A number means one cluster for ever: joined numbers are not given again, and those of new clusters follow
    the highest there was.
    """

    def __init__(self, names: Mapping[int, str], first_free: int = 0) -> None:
        """Begin with clusters as they were found.

        Args:
            names: Number -> name.
            first_free: No new cluster has a lower number.
        """
        self._first_free = first_free
        self.names = dict(names)
        """Of all numbers there ever were."""
        self.joined: dict[int, int] = {}
        """Number of a cluster that is no more -> the one it was joined into."""
        self.waste: set[int] = set()
        """Clusters marked as of no use."""
        self.moved: dict[int, int] = {}
        """gid of an image that was put somewhere by hand -> the cluster it was put into."""

    @property
    def next_number(self) -> int:
        """What a new cluster is called."""
        return max(self._first_free, max(self.names, default=-1) + 1)

    @property
    def numbers(self) -> list[int]:
        """Clusters that are left and no waste, rising."""
        return sorted(self.names.keys() - self.joined.keys() - self.waste)

    def is_as(self, names: Mapping[int, str]) -> bool:
        """Whether nothing differs from clusters of these names."""
        return not (self.joined or self.waste or self.moved) and self.names == dict(names)

    def now(self, number: int) -> int:
        """The cluster that images of a former one are in; -1 where that is waste, and for -1."""
        while number in self.joined:
            number = self.joined[number]
        return WASTE if number in self.waste else number

    def apply(self, operations: Iterable[Operation], where: str) -> None:
        """Do operations in order; images of a `Move` are gids.

        Args:
            operations: What to do.
            where: The file they come from, for messages.

        Raises:
            DataError: one speaks of a cluster that is not there, or would join a cluster with itself.
        """
        for at, operation in enumerate(operations):
            self._do[type(operation)](self, operation, f"{where}: operations[{at}]")

    def call(self, names: Mapping[int, str], where: str) -> None:
        """Give several clusters names at once; those that then have one name become one cluster.

        Args:
            names: Number -> name; clusters that are not there are passed over.
            where: Where the names come from, for messages.
        """
        left = set(self.numbers)
        for number, name in names.items():
            if number in left and name.strip():
                self.names[number] = name
        first: dict[str, int] = {}
        for number in sorted(left):
            into = first.setdefault(self.names[number], number)
            if into != number:
                self._join(Join((number,), into), where)

    def _rename(self, operation: Rename, where: str) -> None:
        self._require_left(operation.cluster, where)
        same = [n for n in self.numbers if self.names[n] == operation.name and n != operation.cluster]
        if same:
            self._join(Join((operation.cluster,), same[0]), where)
        else:
            self.names[operation.cluster] = operation.name

    def _join(self, operation: Join, where: str) -> None:
        self._require_left(operation.into, where)
        if operation.into in operation.clusters:
            _refuse("a cluster that is joined with itself", "other clusters", operation.into, where)
        for number in operation.clusters:
            self._require_left(number, where)
        self.joined |= dict.fromkeys(operation.clusters, operation.into)

    def _waste(self, operation: Waste, where: str) -> None:
        for number in operation.clusters:
            self._require_left(number, where)
        self.waste |= set(operation.clusters)

    def _restore(self, operation: Restore, where: str) -> None:
        for number in operation.clusters:
            if number not in self.waste:
                _refuse("a cluster is not in waste", sorted(self.waste) or "none is", number, where)
            self._require_new(self.names[number], where)
        self.waste -= set(operation.clusters)

    def _create(self, operation: Create, where: str) -> None:
        if operation.cluster != self.next_number:
            _refuse("a new cluster has a wrong number", self.next_number, operation.cluster, where)
        self._require_new(operation.name, where)
        self.names[operation.cluster] = operation.name

    def _move(self, operation: Move, where: str) -> None:
        if operation.to != WASTE:
            self._require_left(operation.to, where)
        self.moved |= {int(gid): operation.to for gid in operation.images}

    _do: Mapping[type[Operation], Callable[[Any, Any, str], None]] = {
        Rename: _rename,
        Join: _join,
        Waste: _waste,
        Restore: _restore,
        Create: _create,
        Move: _move,
    }

    def _require_new(self, name: str, where: str) -> None:
        if name in (self.names[n] for n in self.numbers):
            _refuse("another cluster has that name", "a new name", ascii(name), where)

    def _require_left(self, number: int, where: str) -> None:
        if number in self.joined:
            _refuse("a cluster is no more", f"the one it was joined into, {self.now(number)}", number, where)
        if number in self.waste:
            _refuse("a cluster is in waste", "one in use; restore it first", number, where)
        if number not in self.names:
            _refuse("there is no such cluster", f"a number of 0..{self.next_number - 1}", number, where)


def _refuse(problem: str, expected: object, got: object, where: str) -> NoReturn:
    raise DataError(
        f"the edits cannot be applied: {problem}",
        expected=expected,
        got=got,
        where=where,
        fix="correct the operation; nothing was changed",
    )
