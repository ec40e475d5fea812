"""SeLa Table 8: equal clusters on unequal classes, against k-means. Images are left out by their labels."""

from rayscan.experiments.base import Experiment, Row, Selection
from rayscan.experiments.sela_tables import NOTES, SELA

IMBALANCES: tuple[tuple[Selection, str], ...] = (("all", "full"), ("light", "light"), ("heavy", "heavy"))

EXPERIMENT = Experiment(
    name="sela-imbalance",
    title="Imbalanced classes",
    source="SeLa, arXiv 1911.05371, Table 8",
    rows=tuple(
        row
        for images, title in IMBALANCES
        for row in (
            Row(f"SeLa, {title}", SELA, images=images),
            Row(f"K-means, {title}", SELA, reads="kmeans", images=images),
        )
    ),
    notes=(
        f"{NOTES} Light: half of the last class is left out of train. Heavy: 10 % of the first class, 20 % "
        "of the second and so on. Eval is whole."
    ),
)
