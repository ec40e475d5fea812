"""Everything the page shows, as plain values. Filled by `stages.report`, read by `page`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayscan.types import Ints


@dataclass(frozen=True)
class Picture:
    """One image that the page names."""

    name: str
    """Source path or key; foreign text, only ever shown as text."""
    cluster: int
    confidence: float
    """Probability of its cluster, 0..1."""
    margin: float
    """Confidence less the probability of the second best cluster, 0..1."""
    url: str | None = None
    """`data:` URL; None shows the name instead."""


@dataclass(frozen=True)
class Cluster:
    """One group of images."""

    number: int
    name: str
    """As edited in clusters.json; may be empty."""
    size: int
    """Images of all splits."""
    mean_confidence: float
    prototypes: Sequence[int] = ()
    """gids of the most typical images, best first."""
    uncertain: Sequence[int] = ()
    """gids of the least confident images, worst first."""
    proposed: Sequence[str] = ()
    """Names that the words beside its images suggest, best first."""
    waste: Sequence[int] = ()
    """Clusters marked as waste, which may be restored; of waste itself, number -1."""


@dataclass(frozen=True)
class Neighbors:
    """A train image and its mined neighbors."""

    anchor: int
    ids: Sequence[int]
    """gids, nearest first."""
    scores: Sequence[float]
    """Cosine with the anchor, -1..1."""


@dataclass(frozen=True)
class NearCopies:
    """Groups of near-copies, and how they were told."""

    groups: Sequence[Sequence[int]]
    """gids of the largest groups, the one that stands for the group first."""
    num_groups: int
    num_copies: int
    """Images that another one stands for."""
    compared: str
    """pixels or features."""
    threshold: float
    """Likeness from which on two images are near-copies, -1..1."""
    is_asked: bool
    """Whether a user set it."""
    nearest: Ints
    """Images per equal bin of the likeness of the neighbor most like them, over -1..1: int64 [bins]."""


@dataclass(frozen=True)
class Curve:
    """The values of one quantity in one training."""

    stage: str
    name: str
    epochs: NDArray[np.float64]
    """float64 [n]."""
    values: NDArray[np.float64]
    """float64 [n]."""


@dataclass(frozen=True)
class Heads:
    """Held-out losses of the heads that were trained side by side."""

    stage: str
    losses: Sequence[float]
    chosen: int | None
    """Which one was kept."""


@dataclass(frozen=True)
class Quarantined:
    """An image that could not be used."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Content:
    """A whole page."""

    recipe: Mapping[str, Any]
    """The recipe's JSON tree."""
    images: Mapping[str, int]
    """Images that were used, by split, in the order to show."""
    clusters: Sequence[Cluster]
    label_free: Mapping[str, float]
    """used_clusters, balance, largest_share and, where neighbors are known, nmi_nn."""
    confidences: Ints
    """Images per equal bin of confidence over 0..1, int64 [bins]."""
    pictures: Mapping[int, Picture] = field(default_factory=dict)
    """By gid."""
    neighbors: Sequence[Neighbors] = ()
    copies: NearCopies | None = None
    outliers: Sequence[tuple[int, float]] = ()
    """gids of the images farthest from all others, and their quantile, farthest first."""
    scores: Mapping[str, Any] | None = None
    """scores.json, or None without labels."""
    curves: Sequence[Curve] = ()
    heads: Sequence[Heads] = ()
    quarantined: Sequence[Quarantined] = ()
    """The first of them."""
    num_quarantined: int = 0
    facts: Sequence[tuple[str, str]] = ()
    """Versions, places and times, as name and text."""
    notes: Sequence[str] = ()
    """What the reader must know of this page, such as pictures left out."""
    fingerprint: str = ""
    """Of the assignments, which edits of this page are made for."""
    next_cluster: int = 0
    """Number of the next new cluster."""

    @property
    def num_clusters(self) -> int:
        """Clusters without waste."""
        return sum(cluster.number >= 0 for cluster in self.clusters)
