"""The label-free score that ranks groupings: S = (2 nmi_nn + cv_mi) / 3 on the whitened graph and space.

Of several readings of the features S is the mean: a cut that one of them shows and the others do not is
more likely to be along what that reading happens to vary in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rayscan.consensus.probe import RidgeProbe
from rayscan.consensus.space import Space
from rayscan.metrics.label_free import collapse, nmi_nn
from rayscan.types import Ints

SIZES = 0.1
"""Share of the balance of the cluster sizes that the merit takes off S."""
PROBE_ROWS = 50_000
"""Beyond, the linear rule is judged on a seeded sample of so many rows."""


class Score:
    """Scores any groupings of one set of rows.

    nmi_nn: mutual information of the clusters of neighbours (5 of G2), over log C. cv_mi: mutual information
    of the cluster and its prediction by a linear rule on the principal components, five-fold, over log C.
    """

    def __init__(self, space: Space, num_clusters: int, seed: int) -> None:
        """Factor the probe."""
        count = len(space.rows)
        rng = np.random.default_rng([seed, 13])
        self._probed = np.sort(rng.choice(count, min(count, PROBE_ROWS), replace=False))
        self._probe = RidgeProbe(space.rows[self._probed], rng.permutation(len(self._probed)))
        self._ids, self._anchors, self._clusters = space.ids, np.arange(count), num_clusters

    def of(self, groupings: Sequence[Ints]) -> list[float]:
        """S of each grouping [N], 0..1: 0 if all is in one cluster. Renumbering clusters changes nothing."""
        agree = [nmi_nn(labels, self._anchors, self._ids, self._clusters) for labels in groupings]
        rule = self._probe.cv_mi([labels[self._probed] for labels in groupings], self._clusters)
        return [(2 * a + r) / 3 for a, r in zip(agree, rule, strict=True)]

    def merit(self, groupings: Sequence[Ints]) -> list[float]:
        """S less a tenth of H(sizes) / log C: what groupings are ranked by.

        S is mutual information over log C, so of two groupings without an error that of equal clusters has
        more. Cutting a large cluster through the middle can gain more of it than leaving two small ones
        joined costs; a tenth of the entropy taken off, and uneven clusters win where they are clean.
        """
        scores = self.of(groupings)
        balance = [collapse(labels, self._clusters)["balance"] for labels in groupings]
        return [score - SIZES * even for score, even in zip(scores, balance, strict=True)]


class JointScore:
    """Mean of the scores in several spaces of the same rows."""

    def __init__(self, spaces: Sequence[Space], num_clusters: int, seed: int) -> None:
        """Factor the probe of each space."""
        self._scores = [Score(space, num_clusters, seed) for space in spaces]

    def of(self, groupings: Sequence[Ints]) -> list[float]:
        """Mean S of each grouping [N], 0..1."""
        return _mean([score.of(groupings) for score in self._scores])

    def merit(self, groupings: Sequence[Ints]) -> list[float]:
        """Mean merit of each grouping [N]."""
        return _mean([score.merit(groupings) for score in self._scores])


def _mean(by_space: Sequence[Sequence[float]]) -> list[float]:
    return [sum(values) / len(values) for values in zip(*by_space, strict=True)]
