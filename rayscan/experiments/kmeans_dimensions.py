"""arXiv 2008.10312, Fig. 2a: k-means on fewer and fewer principal components."""

from rayscan.experiments.base import Experiment, Row

RIVAL = {"method": "kmeans", "kmeans.num_seeds": 1}

EXPERIMENT = Experiment(
    name="kmeans-dimensions",
    title="k-means by the number of components",
    source="arXiv 2008.10312, Fig. 2a",
    metrics=("acc_tr", "ari", "ami", "nmi"),
    rows=(
        *(
            Row(f"P = {p}", {**RIVAL, "pca.num_components": p}, reads="kmeans", x=p, series="components")
            for p in (2, 4, 8, 16, 32, 64)
        ),
        Row("all", {**RIVAL, "pca.num_components": None}, reads="kmeans"),
    ),
    x_label="P",
    notes="The paper goes from 16 to 6,144 components of a wider network; accuracy rises and then falls.",
)
