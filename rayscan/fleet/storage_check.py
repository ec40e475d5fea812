"""Whether every node reaches the storage of a run."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from rayscan.errors import FleetError
from rayscan.storage import Place, is_local


class StorageCheck:
    """Asks each node once whether it sees --out."""

    def __init__(self, out: Place) -> None:
        """Remember the storage; nothing is asked yet."""
        self.out = out
        self._checked: set[str] = set()

    @property
    def has_checked(self) -> bool:
        """Whether any node was asked."""
        return bool(self._checked)

    def require(self, nodes: Sequence[str]) -> None:
        """Refuse an --out in a directory that not all of these nodes see.

        Args:
            nodes: Ids; those that were found to see it are not asked again, those that are gone by now do not
                count.

        Raises:
            FleetError: a node does not see it.
        """
        new = sorted(set(nodes) - self._checked)
        self._checked.update(new)
        if not new or len(self._checked) == 1 or not is_local(self.out.uri):
            return
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

        token = f".seen-{secrets.token_hex(4)}"
        self.out.write(token, b"")
        try:
            task = ray.remote(num_cpus=0, max_retries=0)(_sees)
            asked = [
                task.options(scheduling_strategy=On(node, soft=False)).remote(self.out, token) for node in new
            ]
            blind = [node for node, answer in zip(new, asked, strict=True) if _result(answer) is False]
        finally:
            self.out.delete(token)
        if blind:
            raise FleetError(
                "--out is a directory that not every node sees",
                expected="a shared file system or an object store, such as s3://bucket/run",
                got=f"{self.out.uri}, invisible on {len(blind)} of {len(self._checked)} nodes",
                where="--out",
                fix="choose an --out that every node reaches",
            )


def _sees(place: Place, name: str) -> bool:
    return place.size(name) is not None


def _result(reference: Any) -> bool | None:
    """What a node answered; None where it is gone, which Ray may not have noticed when it was asked."""
    import ray

    try:
        return bool(ray.get(reference))
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError:
        return None
