"""Every method once, on the same images and embeddings."""

from rayscan.experiments.base import Experiment, Row, at_most
from rayscan.experiments.sela import SELA

CACHED = {"scan.inputs": "embeddings", "selflabel.epochs": 0}

METHODS = Experiment(
    name="methods",
    title="Every method once",
    source="none: the project's own comparison",
    metrics=("acc", "nmi", "ari", "ece"),
    rows=(
        Row("k-means on raw pixels", CACHED, reads="pixels"),
        Row("k-means on features", CACHED, reads="kmeans"),
        Row("SCAN", {"selflabel.epochs": 0}),
        Row("SCAN + self-labelling"),
        Row(
            "weighted PMI",
            {
                "selflabel.epochs": 0,
                "scan.loss": "pmi",
                "embed.num_views": 1,
                "scan.head_optimizer.learning_rate": at_most("scan.head_optimizer.learning_rate", 1e-2),
            },
        ),
        Row(
            "SeLa",
            {
                **SELA,
                "sela.epochs": lambda r: (
                    r.scan.head_epochs if r.sela.inputs == "embeddings" else max(2, r.pretext.epochs // 2)
                ),
                "sela.num_heads": 3,
            },
        ),
    ),
    notes=(
        "SeLa starts from the pretext's weights for half as many epochs as it had, or trains heads. Heads "
        "of PMI learn at 0.01 at most, faster they may fall into few clusters; and from plain views alone: "
        "augmented ones agree less often, and then its loss prefers equal probabilities."
    ),
)
