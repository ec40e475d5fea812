"""SCAN Table 1: k-means, the SCAN loss and self-labelling under two families of augmentation."""

from rayscan.experiments.base import Experiment, Row, at_least, same_as

SIMCLR = {"scan.views": same_as("pretext.views")}
STRONG = {"selflabel.keep_better": False, "selflabel.epochs": at_least("selflabel.epochs", 1)}
NONE = {"selflabel.epochs": 0}

EXPERIMENT = Experiment(
    name="scan-table1",
    title="Ablation of the method",
    source="SCAN, arXiv 2005.12320, Table 1",
    rows=(
        Row("Pretext + K-means", NONE, reads="kmeans", paper={"cifar10": "65.9 +- 5.7"}),
        Row("SCAN-Loss (SimCLR)", {**SIMCLR, **NONE}, paper={"cifar10": "78.7 +- 1.7"}),
        Row(
            "SCAN-Loss (SimCLR), self-labeling (SimCLR)",
            {**SIMCLR, **STRONG, "selflabel.views": same_as("pretext.views")},
            paper={"cifar10": "10.0 +- 0"},
        ),
        Row(
            "SCAN-Loss (SimCLR), self-labeling (RA)",
            {**SIMCLR, **STRONG},
            paper={"cifar10": "87.4 +- 1.6"},
        ),
        Row("SCAN-Loss (RA)", NONE, paper={"cifar10": "81.8 +- 1.7"}),
        Row("SCAN-Loss (RA), self-labeling (RA)", STRONG, paper={"cifar10": "87.6 +- 0.4"}),
    ),
    notes=(
        "RA is the recipe's own scan.views, RandAugment but for digits. The guard of self-labelling is off "
        "in every row: the third is meant to collapse."
    ),
)
