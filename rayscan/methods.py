"""The table of clustering methods: `method` -> what the other rooms must know of it.

A new method is a file in `stages/` for each stage it alone has, a section in `config/`, and a record here.
Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Method:
    """One way to put images into clusters."""

    name: str
    title: str
    """For people."""
    stages: tuple[str, ...]
    """Modules of `rayscan.stages`, in order."""
    model: str
    """The stage whose result puts an image into a cluster: what assign and predict read."""
    heads: tuple[str, str] | None = None
    """Stage and file with the cluster of every train image by every head: gid, head_0, head_1 ..."""
    epochs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Training stage -> its `inputs` -> the setting that says how many epochs it trains: for its cost."""

    @property
    def finds_clusters(self) -> bool:
        """Whether it can do without a number of clusters."""
        return FINDS in self.stages


FEATURES = ("index", "pretext", "embed")
MINED = (*FEATURES, "mine", "duplicates")
FINDS = "howmany"
"""The stage that finds the number of clusters; a run has it where the method does and none was given."""
NEEDS_LABELS = ("labels", "baseline", "evaluate")
"""Stages that a run has where there are labels."""
RESULTS = ("assign", "names", *NEEDS_LABELS, "report")

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            name="scan",
            title="SCAN",
            stages=(*MINED, "scan", "selflabel", *RESULTS),
            model="selflabel",
            heads=("scan", "heads_clusters.parquet"),
            epochs={
                "scan": {"images": "scan.epochs", "both": "scan.epochs", "embeddings": "scan.head_epochs"},
                "selflabel": {"images": "selflabel.epochs", "embeddings": "selflabel.epochs"},
            },
        ),
        Method(
            name="sela",
            title="SeLa",
            stages=(*MINED, "sela", *RESULTS),
            model="sela",
            heads=("sela", "labels.parquet"),
            epochs={"sela": {"images": "sela.epochs", "embeddings": "sela.epochs"}},
        ),
        Method(
            name="consensus",
            title="Consensus clustering",
            stages=(*MINED, FINDS, "consensus", *RESULTS),
            model="consensus",
            heads=("consensus", "heads_clusters.parquet"),
        ),
        Method(
            name="kmeans",
            title="k-means",
            stages=(*FEATURES, "pca", "kmeans", *RESULTS),
            model="kmeans",
        ),
    )
}
