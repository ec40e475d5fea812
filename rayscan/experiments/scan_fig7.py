"""SCAN Fig. 7: the number of neighbors, and none at all."""

from rayscan.experiments.base import Experiment, Row, at_least

PAPER = {
    0: {"cifar10": "56.3", "cifar20": "24.6", "stl10": "47.7"},
    5: {"cifar10": "79.3", "cifar20": "41.1", "stl10": "69.8"},
}

EXPERIMENT = Experiment(
    name="scan-fig7",
    title="Number of neighbors",
    source="SCAN, arXiv 2005.12320, Fig. 7 and Sec. 3.2",
    rows=tuple(
        Row(
            f"K = {k}",
            {
                "scan.num_neighbors": k,
                "scan.head_num_neighbors": k,
                "selflabel.epochs": 0,
                "embed.num_views": lambda r: (
                    max(2, r.embed.num_views) if r.scan.inputs != "images" else r.embed.num_views
                ),
                "mine.num_neighbors": at_least("mine.num_neighbors", k),
            },
            x=k,
            series="SCAN",
            paper=PAPER.get(k, {}),
        )
        for k in (0, 5, 10, 20, 50)
    ),
    x_label="K",
)
