"""SeLa: how often labels are renewed; never is training on random labels."""

from rayscan.experiments.base import Experiment, Row
from rayscan.experiments.sela_tables import NOTES, SELA

EXPERIMENT = Experiment(
    name="sela-relabelings",
    title="Number of re-labelings",
    source="SeLa, arXiv 1911.05371, Sec. 4.2",
    rows=tuple(
        Row(f"{m} re-labelings", {**SELA, "sela.num_relabelings": m}, x=m, series="SeLa")
        for m in (0, 1, 5, 20, 80)
    ),
    x_label="re-labelings",
    notes=f"{NOTES} As in the paper, at most one per epoch: with few epochs the larger numbers are one.",
)
