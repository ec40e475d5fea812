"""STL-10 as in the SCAN paper."""

from __future__ import annotations

from dataclasses import replace

from rayscan.config import ImagesConfig, Recipe
from rayscan.recipes.cifar10 import cifar10


def stl10() -> Recipe:
    """STL-10: 5,000 train and 8,000 eval images of 96 px, 10 clusters.

    Paper: SCAN, arXiv 2005.12320, Table 3: ACC 75.5 +- 2.0 after scan, 76.7 +- 1.9 after self-labelling
    (10 runs, eval split); k-means on the pretext features 65.8.
    Command: `rayscan run stl10 --data 'train-*.tar' --eval-data 'test-*.tar' --out runs/stl10
    --features checkpoint:runs/stl10-pretext`, after `rayscan run stl10 --data 'train-*.tar,unlabeled-*.tar'
    --out runs/stl10-pretext --until pretext`
    Measured: not yet.
    Deviation: those of `cifar10`, and: the 200 self-labelling epochs are the paper's, the published code
    stops at 100. The pretext sees train and the 100,000 unlabeled images by a run of its own, the other
    stages train alone; without that run all stages see one train split.
    """
    base = cifar10()
    return replace(
        base,
        name="stl10",
        num_clusters=10,
        images=ImagesConfig(size_px=96, canvas_px=96),
        pretext=replace(base.pretext, stem="stl"),
    )
