"""SCAN Fig. 8: an upper bound, with the false neighbors removed. Reads labels."""

from rayscan.experiments.base import Experiment, Neighbors, Row, at_least

KINDS: tuple[tuple[Neighbors, str], ...] = (("pure", "true neighbors"), ("mined", "as mined"))

EXPERIMENT = Experiment(
    name="scan-fig8",
    title="No false positives among the neighbors",
    source="SCAN, arXiv 2005.12320, Fig. 8",
    rows=tuple(
        Row(
            f"K = {k}, {title}",
            {
                "scan.num_neighbors": k,
                "scan.head_num_neighbors": k,
                "selflabel.epochs": 0,
                "mine.num_neighbors": at_least("mine.num_neighbors", k),
            },
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
