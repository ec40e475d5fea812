"""Figures of the k-means baseline (arXiv 2008.10312)."""

from __future__ import annotations

from rayscan.experiments.base import Experiment, Row

KMEANS = {"method": "kmeans", "kmeans.num_seeds": 1}

DIMENSIONS = Experiment(
    name="kmeans-dimensions",
    title="k-means by the number of components",
    source="arXiv 2008.10312, Fig. 2a",
    metrics=("acc_tr", "ari", "ami", "nmi"),
    rows=(
        *(
            Row(f"P = {p}", {**KMEANS, "pca.num_components": p}, reads="kmeans", x=p, series="components")
            for p in (2, 4, 8, 16, 32, 64)
        ),
        Row("all", {**KMEANS, "pca.num_components": None}, reads="kmeans"),
    ),
    x_label="P",
    notes="The paper goes from 16 to 6,144 components of a wider network; accuracy rises and then falls.",
)
"""arXiv 2008.10312, Fig. 2a: k-means on fewer and fewer principal components."""

CLUSTERS = Experiment(
    name="kmeans-clusters",
    title="k-means by the number of clusters",
    source="arXiv 2008.10312, Fig. 2b",
    metrics=("acc_tr", "ari", "ami", "nmi", "many_to_one"),
    rows=tuple(
        Row(
            f"{factor:g} x",
            {**KMEANS, "kmeans.over_clustering": factor},
            reads="kmeans",
            x=factor,
            series="clusters",
        )
        for factor in (1.0, 1.5, 2.0, 3.0, 5.0)
    ),
    x_label="clusters per class",
    notes="One cluster per class by the best match on train labels, the rest by majority, as in the paper.",
)
"""arXiv 2008.10312, Fig. 2b: k-means with more clusters than classes."""

EXPERIMENTS = (DIMENSIONS, CLUSTERS)
"""In the order of the paper."""
