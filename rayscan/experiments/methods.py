"""Every method once, on the same images and embeddings."""

from rayscan.experiments.base import Experiment, Row, same_as, scaled

CACHED = {"scan.inputs": "embeddings", "selflabel.epochs": 0}

EXPERIMENT = Experiment(
    name="methods",
    title="Every method once",
    source="none: the project's own comparison",
    metrics=("acc", "nmi", "ari", "ece"),
    rows=(
        Row("k-means on raw pixels", CACHED, reads="pixels"),
        Row("k-means on features", CACHED, reads="kmeans"),
        Row("SCAN", {"selflabel.epochs": 0}),
        Row("SCAN + self-labelling"),
        Row("weighted PMI", {"selflabel.epochs": 0, "scan.loss": "pmi"}),
        Row(
            "SeLa",
            {
                "method": "sela",
                "sela.epochs": scaled("pretext.epochs", 0.5, least=2),
                "sela.batch_size": same_as("scan.batch_size"),
                "sela.views": same_as("pretext.views"),
                "sela.num_heads": 3,
                "sela.optimizer": same_as("scan.optimizer"),
            },
        ),
    ),
    notes="SeLa starts from the pretext's weights for half as many epochs as the pretext had.",
)
