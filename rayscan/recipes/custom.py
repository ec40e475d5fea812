"""Anybody's own pictures."""

from __future__ import annotations

from dataclasses import replace

from rayscan.config import AUTO, Recipe, ScanLossConfig, SelfLabelConfig
from rayscan.recipes.custom_scratch import custom_scratch


def custom() -> Recipe:
    """Your own images, by the features of a pretrained network, in as many clusters as these suggest.

    Command: `rayscan run custom --data photos/ --out runs/photos`
    `--num-clusters 20` where you know better (docs/howto/clusters.md); other methods demand it.
    Method: features of EfficientNet-Lite0, which comes with rayscan (`lite0`), then consensus clustering:
    nothing is downloaded and no network is trained. That network has seen ImageNet's labels. Without any
    label: `--features own`, which trains here as `custom_scratch` does, or `--features dinov2-small` after
    `rayscan fetch dinov2-small`; `--features lite0 own` joins both.
    Measured: docs/results/features.md and docs/results/clustering.md.
    Deviation: not SCAN (arXiv 2005.12320); what each part is from stands in `rayscan/consensus/`.
    """
    return replace(
        custom_scratch(),
        name="custom",
        method="consensus",
        num_clusters=AUTO,
        features=("lite0",),
        scan=ScanLossConfig(inputs="embeddings", num_neighbors=20, num_heads=10, head_epochs=50),
        selflabel=SelfLabelConfig(inputs="embeddings", epochs=0),
    )
