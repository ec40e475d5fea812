"""SCAN Table 4: subsets of the classes, growing; on ImageNet 50, 100 and 200 of 1,000."""

from rayscan.experiments.base import Experiment, Row, Selection

SUBSETS: tuple[tuple[Selection, str], ...] = (
    ("third", "a third of the classes"),
    ("two thirds", "two thirds"),
    ("all", "all"),
)

EXPERIMENT = Experiment(
    name="scan-table4",
    title="Subsets of the classes",
    source="SCAN, arXiv 2005.12320, Table 4",
    metrics=("acc", "top5", "nmi", "ari"),
    rows=tuple(
        row
        for images, title in SUBSETS
        for row in (
            Row(f"K-means, {title}", reads="kmeans", images=images),
            Row(f"SCAN, {title}", {"selflabel.epochs": 0}, images=images),
            Row(f"SCAN + self-labeling, {title}", images=images),
        )
    ),
    notes=(
        "The paper's own subsets are the recipes imagenet50, imagenet100 and imagenet200 on shards of those "
        "classes: one run each. Here the first classes in class order are taken of the data that is given, "
        "and as many clusters; the eval split is cut alike."
    ),
)
