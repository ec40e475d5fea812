"""Clusters formed on one set of images, judged on another with other classes (arXiv 2008.10312, C).

A class of the other set may stand for several classes of the first. Letters: N images, C clusters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rayscan.errors import DataError
from rayscan.metrics.assignment import NO_CLASS, accuracy, hungarian_then_majority
from rayscan.metrics.contingency import Contingency
from rayscan.metrics.scores import ami, ari, nmi
from rayscan.types import Ints


def allowed_classes(
    names: Sequence[str], home_names: Sequence[str], class_map: Mapping[str, Sequence[str]] | None
) -> NDArray[np.bool_]:
    """Which classes of the first set each class of the other stands for.

    Args:
        names: Classes of the other set.
        home_names: Classes of the first: [L].
        class_map: Name -> names in the first set; classes it does not name take no part. Without it equal
            names are equal classes.

    Returns:
        bool [classes of the other set, L].

    Raises:
        DataError: no class of the other set stands for one of the first.
    """
    number = {name: i for i, name in enumerate(home_names)}
    allowed = np.zeros((len(names), len(home_names)), bool)
    for row, name in enumerate(names):
        targets = [name] if class_map is None else class_map.get(name, ())
        allowed[row, [number[t] for t in targets if t in number]] = True
    if not allowed.any():
        raise DataError(
            "the two sets have no class in common",
            expected=f"names such as {', '.join(list(home_names)[:3])}",
            got=f"names such as {', '.join(list(names)[:3])}",
            fix="pass --class-map FILE with columns class and maps_to",
        )
    return allowed


def transfer_scores(
    clusters: Ints, labels: Ints, allowed: NDArray[np.bool_], home: Contingency
) -> dict[str, float]:
    """Scores on the images whose class stands for a class of the first set.

    Args:
        clusters: Cluster of each image of the other set: [N].
        labels: Its class, -1 where unlabelled: [N].
        allowed: `allowed_classes`.
        home: Clusters against classes on the train images of the first set.

    Returns:
        acc_tr: the mapping of clusters to classes is that of the first set's train labels. acc_val: it is
            fitted on these very images. ari, ami, nmi: of these images. images: how many they are.

    Raises:
        DataError: there are no such images.
    """
    takes_part: NDArray[np.bool_] = np.append(allowed.any(axis=1), False)  # -1, unlabelled, is the last
    used = takes_part[labels]
    if not used.any():
        raise DataError(
            "no image has a class of both sets",
            expected="at least one",
            got=f"{int((labels >= 0).sum())} labels",
        )
    clusters, labels = clusters[used], labels[used]
    learnt = hungarian_then_majority(home)[clusters]
    right = (learnt != NO_CLASS) & allowed[labels, learnt]
    present, own = np.unique(labels, return_inverse=True)  # a class without images shall take no cluster
    table = Contingency.count(clusters, own, home.num_clusters, len(present))
    return {
        "acc_tr": float(right.mean()),
        "acc_val": accuracy(table, hungarian_then_majority(table)),
        "ari": ari(table),
        "ami": ami(table),
        "nmi": nmi(table),
        "images": int(used.sum()),
    }
