"""The demo: real handwritten digits, from pixels to report on a laptop."""

from __future__ import annotations

from rayscan.config import (
    EmbedConfig,
    ImagesConfig,
    MineConfig,
    OptimizerConfig,
    PretextConfig,
    Recipe,
    ScanConfig,
    SelfLabelConfig,
)


def digits() -> Recipe:
    """1,797 handwritten digits of 8x8 px that ship inside scikit-learn, 10 clusters.

    Source: the optical digits of Alpaydin and Kaynak (1998), as in `sklearn.datasets.load_digits`.
    Method: SCAN (arXiv 2005.12320) with SimCLR under affine and elastic views; no flips, no colors.
    Command: `rayscan demo --out runs/demo`
    Measured: docs/results/digits.md (three seeds, k-means beside).
    Deviation: NT-Xent T 0.5 instead of 0.1: with 1,800 images few negatives are hard. Heads train on cached
    features first (ten, the lowest held-out loss wins), then one network on images, with K 5 of 50 neighbors.
    """
    return Recipe(
        name="digits",
        num_clusters=10,
        images=ImagesConfig(size_px=16, canvas_px=16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        pretext=PretextConfig(
            backbone="resnet10_w16",
            stem="cifar",
            temperature=0.5,
            views="digits",
            epochs=60,
            batch_size=256,
            optimizer=OptimizerConfig(kind="sgd", learning_rate=0.4, weight_decay=1e-4, warmup_epochs=2),
        ),
        embed=EmbedConfig(space="backbone"),
        mine=MineConfig(num_neighbors=50),
        scan=ScanConfig(
            inputs="both",
            num_neighbors=5,
            num_heads=10,
            views="digits",
            epochs=20,
            batch_size=256,
        ),
        selflabel=SelfLabelConfig(
            views="digits", epochs=30, batch_size=256, ema_decay=0.99, plateau_epochs=5
        ),
    )
