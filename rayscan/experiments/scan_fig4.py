"""SCAN Fig. 4: accuracy and confident images while self-labelling goes on."""

from rayscan.experiments.base import Experiment, Row, scaled

SHARES = (0.0, 0.1, 0.25, 0.5, 1.0)


def _row(share: float) -> Row:
    return Row(
        f"{share:.0%} of the epochs",
        {
            "selflabel.epochs": scaled("selflabel.epochs", share, least=4),
            "selflabel.plateau_epochs": 10_000,
            "selflabel.keep_better": False,
        },
        x=share,
        series="self-labeling",
    )


EXPERIMENT = Experiment(
    name="scan-fig4",
    title="Confident images during self-labeling",
    source="SCAN, arXiv 2005.12320, Fig. 4",
    metrics=("acc", "confident"),
    rows=tuple(_row(share) for share in SHARES),
    x_label="share of the self-labeling epochs",
    notes="Each point is a training of its own that stops there.",
)
