"""SeLa: the number of clusters K."""

from rayscan.experiments.base import Experiment, Row, scaled
from rayscan.experiments.sela_tables import NOTES, SELA

EXPERIMENT = Experiment(
    name="sela-clusters",
    title="Number of clusters",
    source="SeLa, arXiv 1911.05371, Sec. 4.2",
    metrics=("many_to_one", "nmi", "ami"),
    rows=tuple(
        Row(
            f"{factor:g} x the classes",
            {**SELA, "num_clusters": scaled("num_clusters", factor)},
            x=factor,
            series="SeLa",
        )
        for factor in (1, 2, 3, 5)
    ),
    x_label="clusters over classes",
    notes=NOTES,
)
