"""arXiv 2008.10312, Fig. 2b: k-means with more clusters than classes."""

from rayscan.experiments.base import Experiment, Row

EXPERIMENT = Experiment(
    name="kmeans-clusters",
    title="k-means by the number of clusters",
    source="arXiv 2008.10312, Fig. 2b",
    metrics=("acc_tr", "ari", "ami", "nmi", "many_to_one"),
    rows=tuple(
        Row(
            f"{factor:g} x",
            {"method": "kmeans", "kmeans.num_seeds": 1, "kmeans.over_clustering": factor},
            reads="kmeans",
            x=factor,
            series="clusters",
        )
        for factor in (1.0, 1.5, 2.0, 3.0, 5.0)
    ),
    x_label="clusters per class",
    notes="One cluster per class by the best match on train labels, the rest by majority, as in the paper.",
)
