"""SCAN Table 3: after clustering, after self-labelling, over-clustered, and with every label."""

from rayscan.experiments.base import Experiment, Row, same_as, scaled

EXPERIMENT = Experiment(
    name="scan-table3",
    title="Against k-means and supervision",
    source="SCAN, arXiv 2005.12320, Table 3",
    metrics=("acc", "many_to_one", "nmi", "ari"),
    rows=(
        Row(
            "Pretext + K-means",
            reads="kmeans",
            paper={"cifar10": "65.9", "cifar20": "39.5", "stl10": "65.8"},
        ),
        Row(
            "SCAN after clustering",
            {"selflabel.epochs": 0},
            paper={"cifar10": "81.8 +- 0.3", "cifar20": "42.2 +- 3.0", "stl10": "75.5 +- 2.0"},
        ),
        Row(
            "SCAN after self-labeling",
            paper={"cifar10": "87.6 +- 0.4", "cifar20": "45.9 +- 2.7", "stl10": "76.7 +- 1.9"},
        ),
        Row(
            "SCAN, twice as many clusters (many to one)",
            {"num_clusters": scaled("num_clusters", 2)},
            paper={"cifar10": "86.2 +- 0.8", "cifar20": "55.1 +- 1.6", "stl10": "76.8 +- 1.1"},
        ),
        Row(
            "Supervised",
            {
                "method": "sela",
                "sela.num_relabelings": 0,
                "sela.epochs": same_as("pretext.epochs"),
                "sela.batch_size": same_as("pretext.batch_size"),
                "sela.views": same_as("pretext.views"),
                "sela.start": "fresh",
                "sela.optimizer": same_as("pretext.optimizer"),
            },
            first_labels="true",
            paper={"cifar10": "93.8", "cifar20": "80.0", "stl10": "80.6"},
        ),
    ),
    notes="The supervised row trains on the labels from random weights, for as many epochs as the pretext.",
)
