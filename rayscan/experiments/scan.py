"""Tables and figures of SCAN (arXiv 2005.12320)."""

from __future__ import annotations

from rayscan.experiments.base import Experiment, Neighbors, Row, Selection, at_least, same_as, scaled

NO_SELFLABEL = {"selflabel.epochs": 0}


def _stopped(share: float) -> dict[str, object]:
    """Self-labelling that ends after a share of its epochs, whatever it made."""
    return {
        "selflabel.epochs": scaled("selflabel.epochs", share, least=4),
        "selflabel.plateau_epochs": 10_000,
        "selflabel.keep_better": False,
    }


def _neighbors(k: int) -> dict[str, object]:
    """K neighbors, mined if need be, and no self-labelling."""
    return {
        "scan.num_neighbors": k,
        "scan.head_num_neighbors": k,
        "mine.num_neighbors": at_least("mine.num_neighbors", k),
        **NO_SELFLABEL,
    }


SIMCLR = {"scan.views": same_as("pretext.views")}
STRONG = {"selflabel.keep_better": False, "selflabel.epochs": at_least("selflabel.epochs", 1)}

TABLE_1 = Experiment(
    name="scan-table1",
    title="Ablation of the method",
    source="SCAN, arXiv 2005.12320, Table 1",
    rows=(
        Row("Pretext + K-means", NO_SELFLABEL, reads="kmeans", paper={"cifar10": "65.9 +- 5.7"}),
        Row("SCAN-Loss (SimCLR)", {**SIMCLR, **NO_SELFLABEL}, paper={"cifar10": "78.7 +- 1.7"}),
        Row(
            "SCAN-Loss (SimCLR), self-labeling (SimCLR)",
            {**SIMCLR, **STRONG, "selflabel.views": same_as("pretext.views")},
            paper={"cifar10": "10.0 +- 0"},
        ),
        Row("SCAN-Loss (SimCLR), self-labeling (RA)", {**SIMCLR, **STRONG}, paper={"cifar10": "87.4 +- 1.6"}),
        Row("SCAN-Loss (RA)", NO_SELFLABEL, paper={"cifar10": "81.8 +- 1.7"}),
        Row("SCAN-Loss (RA), self-labeling (RA)", STRONG, paper={"cifar10": "87.6 +- 0.4"}),
    ),
    notes=(
        "RA is the recipe's own scan.views, RandAugment but for digits. The guard of self-labelling is off "
        "in every row: the third is meant to collapse."
    ),
)
"""SCAN Table 1: k-means, the SCAN loss and self-labelling under two families of augmentation."""

TASKS = (
    ("RotNet", "rotnet", "27.1 +- 2.1", "74.3 +- 3.9"),
    ("Inst. discr. (NCE)", "instdisc", "52.0 +- 4.6", "83.5 +- 4.1"),
    ("Inst. discr. (SimCLR)", "simclr", "65.9 +- 5.7", "87.6 +- 0.4"),
)


def _pretext(method: str) -> dict[str, str]:
    """RotNet has no projection to mine in."""
    return {"pretext.method": method} | ({"embed.space": "backbone"} if method == "rotnet" else {})


TABLE_2 = Experiment(
    name="scan-table2",
    title="Ablation of the pretext task",
    source="SCAN, arXiv 2005.12320, Table 2",
    rows=tuple(
        row
        for title, method, kmeans, scan in TASKS
        for row in (
            Row(f"{title}, K-means", _pretext(method), reads="kmeans", paper={"cifar10": kmeans}),
            Row(f"{title}, SCAN", _pretext(method), paper={"cifar10": scan}),
        )
    ),
)
"""SCAN Table 2: pretext tasks, clustered by k-means and by SCAN with self-labelling."""

TABLE_3 = Experiment(
    name="scan-table3",
    title="Against k-means and supervision",
    source="SCAN, arXiv 2005.12320, Table 3",
    metrics=("acc", "many_to_one", "nmi", "ari"),
    rows=(
        Row(
            "Pretext + K-means", reads="kmeans", paper={"cifar10": "65.9", "cifar20": "39.5", "stl10": "65.8"}
        ),
        Row(
            "SCAN after clustering",
            NO_SELFLABEL,
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
"""SCAN Table 3: after clustering, after self-labelling, over-clustered, and with every label."""

SUBSETS: tuple[tuple[Selection, str], ...] = (
    ("third", "a third of the classes"),
    ("two thirds", "two thirds"),
    ("all", "all"),
)

TABLE_4 = Experiment(
    name="scan-table4",
    title="Subsets of the classes",
    source="SCAN, arXiv 2005.12320, Table 4",
    metrics=("acc", "top5", "nmi", "ari"),
    rows=tuple(
        row
        for images, title in SUBSETS
        for row in (
            Row(f"K-means, {title}", reads="kmeans", images=images),
            Row(f"SCAN, {title}", NO_SELFLABEL, images=images),
            Row(f"SCAN + self-labeling, {title}", images=images),
        )
    ),
    notes=(
        "The paper's own subsets are the recipes imagenet50, imagenet100 and imagenet200 on shards of those "
        "classes: one run each. Here the first classes in class order are taken of the data that is given, "
        "and as many clusters; the eval split is cut alike."
    ),
)
"""SCAN Table 4: subsets of the classes, growing; on ImageNet 50, 100 and 200 of 1,000."""

NEIGHBORS = (1, 5, 10, 20, 50)
CHEAP: dict[str, object] = {
    "evaluate.purity_neighbors": lambda r: tuple(k for k in NEIGHBORS if k <= r.mine.num_neighbors),
    "scan.inputs": "embeddings",
    "scan.head_epochs": 1,
    "scan.num_heads": 1,
    **NO_SELFLABEL,
}

FIG_2 = Experiment(
    name="scan-fig2",
    title="Neighbors of the same class",
    source="SCAN, arXiv 2005.12320, Fig. 2",
    metrics=("purity",),
    rows=tuple(Row(f"K = {k}", CHEAP, reads="purity", x=k, series="purity") for k in NEIGHBORS),
    x_label="K",
    notes="One head is trained for one epoch, since a run ends in clusters; purity does not depend on it.",
)
"""SCAN Fig. 2: how many of the K nearest neighbors are of the same class."""

FIG_4 = Experiment(
    name="scan-fig4",
    title="Confident images during self-labeling",
    source="SCAN, arXiv 2005.12320, Fig. 4",
    metrics=("acc", "confident"),
    rows=tuple(
        Row(f"{share:.0%} of the epochs", _stopped(share), x=share, series="self-labeling")
        for share in (0.0, 0.1, 0.25, 0.5, 1.0)
    ),
    x_label="share of the self-labeling epochs",
    notes="Each point is a training of its own that stops there.",
)
"""SCAN Fig. 4: accuracy and confident images while self-labelling goes on."""


def _fig5_rows(title: str, settings: dict[str, object]) -> tuple[Row, ...]:
    return tuple(
        Row(f"{title}, {share:.0%} of the epochs", {**settings, **_stopped(share)}, x=share, series=title)
        for share in (0.0, 0.25, 0.5, 1.0)
    )


FIG_5 = Experiment(
    name="scan-fig5",
    title="Self-labeling with SimCLR or RandAugment",
    source="SCAN, arXiv 2005.12320, Fig. 5",
    metrics=("acc", "confident"),
    rows=(
        *_fig5_rows(
            "SimCLR", {"selflabel.views": same_as("pretext.views"), "scan.views": same_as("pretext.views")}
        ),
        *_fig5_rows("RandAugment", {"scan.views": same_as("pretext.views")}),
    ),
    x_label="share of the self-labeling epochs",
)
"""SCAN Fig. 5: self-labelling under the augmentations of the pretext, or under stronger ones."""

THRESHOLDS = (0.9, 0.95, 0.97, 0.99, 0.995)

FIG_6 = Experiment(
    name="scan-fig6",
    title="Threshold of self-labeling",
    source="SCAN, arXiv 2005.12320, Fig. 6",
    metrics=("acc", "confident"),
    rows=(
        *(
            Row(
                f"threshold {t}",
                {"selflabel.threshold": t, "selflabel.keep_better": False},
                x=t,
                series="fixed",
            )
            for t in THRESHOLDS
        ),
        *(
            Row(
                f"threshold {t}, per class",
                {
                    "selflabel.threshold": t,
                    "selflabel.threshold_kind": "per_class",
                    "selflabel.keep_better": False,
                },
                x=t,
                series="per class",
            )
            for t in (0.9, 0.99)
        ),
    ),
    x_label="threshold",
    notes="The per-class rows are not in the paper.",
)
"""SCAN Fig. 6: the threshold of self-labelling."""

PAPER_7 = {
    0: {"cifar10": "56.3", "cifar20": "24.6", "stl10": "47.7"},
    5: {"cifar10": "79.3", "cifar20": "41.1", "stl10": "69.8"},
}

FIG_7 = Experiment(
    name="scan-fig7",
    title="Number of neighbors",
    source="SCAN, arXiv 2005.12320, Fig. 7 and Sec. 3.2",
    rows=tuple(
        Row(
            f"K = {k}",
            {
                **_neighbors(k),
                "embed.num_views": lambda r: (
                    max(2, r.embed.num_views) if r.scan.inputs != "images" else r.embed.num_views
                ),
            },
            x=k,
            series="SCAN",
            paper=PAPER_7.get(k, {}),
        )
        for k in (0, 5, 10, 20, 50)
    ),
    x_label="K",
)
"""SCAN Fig. 7: the number of neighbors, and none at all."""

KINDS: tuple[tuple[Neighbors, str], ...] = (("pure", "true neighbors"), ("mined", "as mined"))

FIG_8 = Experiment(
    name="scan-fig8",
    title="No false positives among the neighbors",
    source="SCAN, arXiv 2005.12320, Fig. 8",
    rows=tuple(
        Row(
            f"K = {k}, {title}",
            _neighbors(k),
            x=k,
            series=title,
            neighbors=neighbors,
        )
        for neighbors, title in KINDS
        for k in (5, 20, 50)
    ),
    x_label="K",
    notes=(
        "Neighbors of another class are dropped by their labels, and those left are repeated to fill K; an "
        "image with none left meets itself. Head selection sees the same graph."
    ),
)
"""SCAN Fig. 8: an upper bound, with the false neighbors removed. Reads labels."""

EXPERIMENTS = (TABLE_1, TABLE_2, TABLE_3, TABLE_4, FIG_2, FIG_4, FIG_5, FIG_6, FIG_7, FIG_8)
"""In the order of the paper."""
