"""SeLa: the number of heads T."""

from rayscan.experiments.base import Experiment, Row
from rayscan.experiments.sela_tables import NOTES, SELA

EXPERIMENT = Experiment(
    name="sela-heads",
    title="Number of heads",
    source="SeLa, arXiv 1911.05371, Sec. 4.2",
    metrics=("acc", "nmi", "ari"),
    rows=tuple(Row(f"T = {t}", {**SELA, "sela.num_heads": t}, x=t, series="SeLa") for t in (1, 3, 10)),
    x_label="T",
    notes=NOTES,
)
