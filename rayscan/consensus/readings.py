"""Readings of the features: each is a space that groupings are looked for in and judged in.

Activations after a rectifier, histograms and pixels are never negative and strongly skewed; their square
roots have a more even variance (the Hellinger map: Arandjelovic and Zisserman 2012, RootSIFT; Perronnin,
Sanchez, Mensink 2010, power normalisation). Which of the two carries the classes differs between sets of
pictures, so both are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayscan.consensus.neighbors import unit_rows

Features = NDArray[np.float32]


@dataclass(frozen=True)
class Reading:
    """Which features are read, and how."""

    source: int
    """Number of the matrix among those given."""
    is_root: bool
    """Whether square roots are taken."""

    @property
    def name(self) -> str:
        """Number of the source, with `root` where roots are taken."""
        return f"{self.source}root" if self.is_root else str(self.source)

    def units(self, features: Sequence[Features]) -> Features:
        """Unit rows of the reading, [n, D], from rows of all sources.

        A new row may have an entry below zero where no row of the fit had: its root has that sign.
        """
        rows = np.asarray(features[self.source], np.float32)
        return unit_rows(np.copysign(np.sqrt(np.abs(rows)), rows) if self.is_root else rows)


def readings(features: Sequence[Features]) -> tuple[Reading, ...]:
    """Each matrix as it is, and the roots of those that have no entry below zero."""
    found = []
    for source, rows in enumerate(features):
        found.append(Reading(source, False))
        if not (rows < 0).any():
            found.append(Reading(source, True))
    return tuple(found)
