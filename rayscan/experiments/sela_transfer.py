"""SeLa: labels found by one network teach another from scratch."""

from rayscan.experiments.base import Experiment, Row
from rayscan.experiments.sela_tables import NOTES, SELA

FRESH = {**SELA, "sela.num_relabelings": 0, "sela.start": "fresh"}

EXPERIMENT = Experiment(
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
