"""Tables of SeLa (arXiv 1911.05371)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rayscan.experiments.base import Experiment, Row, Selection, fitting, same_as, scaled

SELA: Mapping[str, Any] = {
    "method": "sela",
    "sela.epochs": fitting("scan.epochs", "scan.head_epochs"),
    "sela.batch_size": fitting("scan.batch_size", "scan.head_batch_size"),
    "sela.views": same_as("pretext.views"),
    "sela.optimizer": fitting("scan.optimizer", "scan.head_optimizer"),
}
"""Settings of a run by SeLa: as long as scan, with its optimizer."""
NOTES = (
    "The paper measures linear probes on ImageNet; here the clusters themselves are scored. Training starts "
    "from the pretext's weights, or heads train on its embeddings, with the epochs and the optimizer of scan."
)

CLUSTERS = Experiment(
    name="sela-clusters",
    title="Number of clusters",
    source="SeLa, arXiv 1911.05371, Sec. 4.2",
    metrics=("many_to_one", "nmi", "ami"),
    rows=tuple(
        Row(
            f"{factor:g} x the classes",
            {**SELA, "num_clusters": scaled("num_clusters", factor)},
            x=factor,
            series="SeLa",
        )
        for factor in (1, 2, 3, 5)
    ),
    x_label="clusters over classes",
    notes=NOTES,
)
"""SeLa: the number of clusters K."""

HEADS = Experiment(
    name="sela-heads",
    title="Number of heads",
    source="SeLa, arXiv 1911.05371, Sec. 4.2",
    metrics=("acc", "nmi", "ari"),
    rows=tuple(Row(f"T = {t}", {**SELA, "sela.num_heads": t}, x=t, series="SeLa") for t in (1, 3, 10)),
    x_label="T",
    notes=NOTES,
)
"""SeLa: the number of heads T."""

RELABELINGS = Experiment(
    name="sela-relabelings",
    title="Number of re-labelings",
    source="SeLa, arXiv 1911.05371, Sec. 4.2",
    rows=tuple(
        Row(f"{m} re-labelings", {**SELA, "sela.num_relabelings": m}, x=m, series="SeLa")
        for m in (0, 1, 5, 20, 80)
    ),
    x_label="re-labelings",
    notes=f"{NOTES} As in the paper, at most one per epoch: with few epochs the larger numbers are one.",
)
"""SeLa: how often labels are renewed; never is training on random labels."""

IMBALANCES: tuple[tuple[Selection, str], ...] = (("all", "full"), ("light", "light"), ("heavy", "heavy"))

IMBALANCE = Experiment(
    name="sela-imbalance",
    title="Imbalanced classes",
    source="SeLa, arXiv 1911.05371, Table 8",
    rows=tuple(
        row
        for images, title in IMBALANCES
        for row in (
            Row(f"SeLa, {title}", SELA, images=images),
            Row(f"K-means, {title}", SELA, reads="kmeans", images=images),
        )
    ),
    notes=(
        f"{NOTES} Light: half of the last class is left out of train. Heavy: 10 % of the first class, 20 % "
        "of the second and so on. Eval is whole."
    ),
)
"""SeLa Table 8: equal clusters on unequal classes, against k-means. Images are left out by their labels."""

FRESH = {**SELA, "sela.num_relabelings": 0, "sela.start": "fresh"}

TRANSFER = Experiment(
    name="sela-transfer",
    title="Label transfer",
    source="SeLa, arXiv 1911.05371, Sec. 4.3",
    rows=(
        Row("SeLa", SELA),
        Row("the same network on its labels, from scratch", FRESH, first_labels="SeLa"),
        Row(
            "a small network on its labels, from scratch",
            {**FRESH, "sela.backbone": "resnet10_w16"},
            first_labels="SeLa",
        ),
        Row("SCAN", {"selflabel.epochs": 0}),
        Row(
            "a small network on the labels of SCAN, from scratch",
            {**FRESH, "sela.backbone": "resnet10_w16"},
            first_labels="SCAN",
        ),
    ),
    notes=NOTES,
)
"""SeLa: labels found by one network teach another from scratch."""

EXPERIMENTS = (CLUSTERS, HEADS, RELABELINGS, IMBALANCE, TRANSFER)
"""In the order of the paper."""
