"""SCAN Fig. 6: the threshold of self-labelling."""

from rayscan.experiments.base import Experiment, Row

THRESHOLDS = (0.9, 0.95, 0.97, 0.99, 0.995)

EXPERIMENT = Experiment(
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
