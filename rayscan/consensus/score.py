"""The label-free score that ranks groupings: S = (2 nmi_nn + cv_mi) / 3 on the whitened graph and space.

Of several readings of the features it is a mean: a cut that one of them shows and the others do not is
more likely to be along what that reading happens to vary in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rayscan.consensus.probe import probe_of
from rayscan.consensus.space import Space
from rayscan.metrics.label_free import collapse, nmi_nn
from rayscan.types import Ints

SIZES = 0.1
"""Share of the balance of the cluster sizes that the merit takes off S."""
TRUST = 0.05
"""Merit by which a source may fall behind the best one before it weighs a third."""
TINY = 1e-30
PROBE_ROWS = 50_000
"""Beyond, the linear rule is judged on a seeded sample of so many rows."""


class Score:
    """Scores any groupings of one set of rows.

    nmi_nn: mutual information of the clusters of neighbours (5 of G2), over log C. cv_mi: mutual information
    of the cluster and its prediction by a linear rule on the principal components, five-fold, over log C. The
    rule is ridge regression, above 100 clusters linear discriminant analysis (`probe`).
    """

    def __init__(self, space: Space, num_clusters: int, seed: int) -> None:
        """Factor the probe."""
        count = len(space.rows)
        rng = np.random.default_rng([seed, 13])
        self._probed = np.sort(rng.choice(count, min(count, PROBE_ROWS), replace=False))
        order = rng.permutation(len(self._probed))
        self._probe = probe_of(space.rows[self._probed], order, num_clusters)
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


def most_score(labels: Ints, num_clusters: int) -> float:
    """The most S that clusters of these sizes could have, H(sizes) / log C; above 0 if all is in one.

    Args:
        labels: [N].
        num_clusters: C.
    """
    return max(float(collapse(labels, num_clusters)["balance"]), TINY)


class JointScore:
    """Weighted mean of the scores in several spaces of the same rows.

    Readings of the same source weigh the same. A source weighs exp((m - max m) / 0.05), m the greatest merit
    that any grouping has in a reading of it: features that carry no clusters cannot judge those of others.
    """

    def __init__(self, spaces: Sequence[Space], sources: Sequence[int], num_clusters: int, seed: int) -> None:
        """Factor the probe of each space; all weigh the same until `weigh`.

        Args:
            spaces: One for each reading.
            sources: Number of the source that each reading is of.
            num_clusters: C.
            seed: Of the scores.
        """
        self._scores = [Score(space, num_clusters, seed) for space in spaces]
        self._sources = np.asarray(sources)
        self.weights = np.full(len(spaces), 1 / len(spaces))
        """Of the readings, summing to 1."""

    def of(self, groupings: Sequence[Ints]) -> list[float]:
        """Mean S of each grouping [N], 0..1."""
        return self._mean([score.of(groupings) for score in self._scores])

    def of_one(self, grouping: Ints) -> tuple[float, float]:
        """Mean S of a grouping [N], and its mean in the readings of the source where that is greatest, 0..1.

        Of sources that show different things each scores little in the other, however clear it is in itself.
        """
        found = np.array([score.of([grouping])[0] for score in self._scores])
        clearest = max(found[self._sources == source].mean() for source in np.unique(self._sources))
        return float(self.weights @ found), float(clearest)

    def merit(self, groupings: Sequence[Ints]) -> list[float]:
        """Mean merit of each grouping [N]."""
        return self._mean([score.merit(groupings) for score in self._scores])

    def weigh(self, groupings: Sequence[Ints]) -> list[float]:
        """Set the weights by the greatest merits among many groupings; their merits then."""
        merits = [score.merit(groupings) for score in self._scores]
        best = np.array([max(of_space) for of_space in merits])
        numbers = np.unique(self._sources)
        reached = np.array([best[self._sources == source].max() for source in numbers])
        of_source = np.exp((reached - reached.max()) / TRUST)
        shares = [
            of_source[numbers == source][0] / (self._sources == source).sum() for source in self._sources
        ]
        self.weights = np.array(shares) / sum(shares)
        return self._mean(merits)

    def _mean(self, by_space: Sequence[Sequence[float]]) -> list[float]:
        values: list[float] = (self.weights @ np.array(by_space)).tolist()
        return values
