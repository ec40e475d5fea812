"""SCAN Fig. 5: self-labelling under the augmentations of the pretext, or under stronger ones."""

from rayscan.experiments.base import Experiment, Row, same_as, scaled

SHARES = (0.0, 0.25, 0.5, 1.0)


def _rows(title: str, settings: dict[str, object]) -> tuple[Row, ...]:
    return tuple(
        Row(
            f"{title}, {share:.0%} of the epochs",
            {
                **settings,
                "selflabel.epochs": scaled("selflabel.epochs", share, least=4),
                "selflabel.plateau_epochs": 10_000,
                "selflabel.keep_better": False,
            },
            x=share,
            series=title,
        )
        for share in SHARES
    )


EXPERIMENT = Experiment(
    name="scan-fig5",
    title="Self-labeling with SimCLR or RandAugment",
    source="SCAN, arXiv 2005.12320, Fig. 5",
    metrics=("acc", "confident"),
    rows=(
        *_rows(
            "SimCLR", {"selflabel.views": same_as("pretext.views"), "scan.views": same_as("pretext.views")}
        ),
        *_rows("RandAugment", {"scan.views": same_as("pretext.views")}),
    ),
    x_label="share of the self-labeling epochs",
)
