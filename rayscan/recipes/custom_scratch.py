"""Anybody's own pictures, with features trained on them alone."""

from __future__ import annotations

from rayscan.config import (
    ImagesConfig,
    MineConfig,
    OptimizerConfig,
    Recipe,
    ScanLossConfig,
    SelfLabelConfig,
    SimCLRConfig,
)


def custom_scratch() -> Recipe:
    """Your own images, with a network trained on them from nothing.

    Command: `rayscan run custom_scratch --data scans/ --num-clusters 20 --out runs/scans`
    For pictures that no pretrained network knows, and where nothing may have seen labels. Demands
    `--num-clusters`.
    Method: SCAN (arXiv 2005.12320) at 64 px with a ResNet-18: a laptop CPU does some hundred pictures in
    minutes to hours, a GPU some hundred thousand in hours. For more detail `--images.size-px 128
    --images.canvas-px 144 --pretext.stem imagenet`; for few pictures more `--pretext.epochs`.
    Measured: nothing yet; the settings are those of the paper's small sets, shortened.
    Deviation: 100 pretext epochs instead of 500, batch 256 with the learning rate scaled down with it
    (arXiv 1706.02677); heads train on cached features first, ten of them, then one network on images for 20
    epochs; self-labelling ends at 50 epochs or at its plateau. Collections of people's own pictures hold
    copies: an image has at most one copy of any picture among its neighbors, or they would teach nothing.
    """
    return Recipe(
        name="custom_scratch",
        num_clusters=None,
        images=ImagesConfig(size_px=64, canvas_px=72),
        pretext=SimCLRConfig(
            backbone="resnet18",
            stem="stl",
            epochs=100,
            batch_size=256,
            optimizer=OptimizerConfig(kind="sgd", learning_rate=0.2, weight_decay=1e-4, warmup_epochs=5),
        ),
        mine=MineConfig(num_neighbors=50, max_copies=1),
        scan=ScanLossConfig(inputs="both", num_neighbors=20, num_heads=10, epochs=20, batch_size=128),
        selflabel=SelfLabelConfig(epochs=50, batch_size=256, plateau_epochs=5),
    )
