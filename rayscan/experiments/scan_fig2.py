"""SCAN Fig. 2: how many of the K nearest neighbors are of the same class."""

from rayscan.experiments.base import Experiment, Row

NEIGHBORS = (1, 5, 10, 20, 50)
CHEAP = {
    "evaluate.purity_neighbors": lambda r: tuple(k for k in NEIGHBORS if k <= r.mine.num_neighbors),
    "scan.inputs": "embeddings",
    "scan.head_epochs": 1,
    "scan.num_heads": 1,
    "selflabel.epochs": 0,
}

EXPERIMENT = Experiment(
    name="scan-fig2",
    title="Neighbors of the same class",
    source="SCAN, arXiv 2005.12320, Fig. 2",
    metrics=("purity",),
    rows=tuple(Row(f"K = {k}", CHEAP, reads="purity", x=k, series="purity") for k in NEIGHBORS),
    x_label="K",
    notes="One head is trained for one epoch, since a run ends in clusters; purity does not depend on it.",
)
