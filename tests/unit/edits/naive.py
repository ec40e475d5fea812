"""Edits done the slow way: a set of images for each cluster, changed image by image."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from rayscan.edits.operations import Create, Join, Move, Operation, Rename, Restore, Waste

WASTE = -1


@dataclass
class SlowClusters:
    """Clusters as sets of images, and as sets of the numbers a model gives."""

    images: dict[int, set[int]]
    names: dict[int, str]
    found: dict[int, set[int]] = field(default_factory=dict)
    wasted: set[int] = field(default_factory=set)
    by_hand: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.found = {number: {number} for number in self.names}
        self.images = {number: set(self.images.get(number, ())) for number in self.names}
        self.images[WASTE] = set()

    def usable(self) -> list[int]:
        return sorted(n for n in self.images if n != WASTE and n not in self.wasted)

    def do(self, operation: Operation) -> None:
        match operation:
            case Rename(cluster, name):
                self.rename(cluster, name)
            case Join(clusters, into):
                for number in clusters:
                    self.join(number, into)
            case Waste(clusters):
                self.wasted |= set(clusters)
            case Restore(clusters):
                self.wasted -= set(clusters)
            case Create(cluster, name):
                self.names[cluster], self.images[cluster], self.found[cluster] = name, set(), set()
            case Move(images, to):
                self.move({int(gid) for gid in images}, to)

    def rename(self, cluster: int, name: str) -> None:
        same = [n for n in self.usable() if self.names[n] == name and n != cluster]
        if same:
            self.join(cluster, same[0])
        else:
            self.names[cluster] = name

    def move(self, images: set[int], to: int) -> None:
        for members in self.images.values():
            members -= images
        self.images[to] |= images
        self.by_hand |= images

    def join(self, number: int, into: int) -> None:
        self.images[into] |= self.images.pop(number)
        self.found[into] |= self.found.pop(number)

    def shown(self, number: int) -> int:
        return WASTE if number in self.wasted else number

    def cluster_of(self, gid: int) -> int:
        (number,) = [n for n, members in self.images.items() if gid in members]
        return self.shown(number)

    def probabilities(self, top: list[int], probs: list[float]) -> dict[int, float]:
        """Of the clusters of now, from those of a model's best ones."""
        sums: dict[int, float] = {}
        for cluster, prob in zip(top, probs, strict=True):
            (number,) = [n for n, numbers in self.found.items() if cluster in numbers]
            sums[self.shown(number)] = sums.get(self.shown(number), 0.0) + prob
        return sums

    def row(self, gid: int, top: list[int], probs: list[float]) -> tuple[int, float, list[Any]]:
        """Cluster, confidence, and (cluster, probability) of the best ones, own first."""
        own = self.cluster_of(gid)
        if gid in self.by_hand:
            return own, 1.0, [(own, 1.0)]
        sums = self.probabilities(top, probs)
        others = sorted(((-p, n) for n, p in sums.items() if n != own))
        return own, sums[own], [(own, sums[own]), *((n, -p) for p, n in others)]


def draw(rng: random.Random, slow: SlowClusters, num_images: int) -> Operation:
    """An operation that can be done now."""
    usable = slow.usable()
    kinds = ["rename", "create", "move", "move"]
    kinds += ["join", "waste"] if len(usable) > 2 else []
    kinds += ["restore"] if slow.wasted else []
    match rng.choice(kinds):
        case "rename":
            taken = [slow.names[n] for n in usable]
            name = rng.choice([*taken, f"name {rng.random():.6f}"] if len(usable) > 2 else ["one", "two"])
            return Rename(rng.choice(usable), name)
        case "create":
            number = max(slow.names) + 1
            return Create(number, f"new {number} {rng.random():.6f}")
        case "join":
            some = rng.sample(usable, rng.randint(2, min(3, len(usable))))
            return Join(tuple(some[1:]), some[0])
        case "waste":
            return Waste((rng.choice(usable),))
        case "restore":
            return Restore((rng.choice(sorted(slow.wasted)),))
    images = rng.sample(range(num_images), rng.randint(1, 6))
    return Move(tuple(sorted(images)), rng.choice([*usable, WASTE]))
