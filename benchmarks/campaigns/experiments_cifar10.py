"""The experiments that a CPU can afford, on 5,000 pictures of CIFAR-10, three seeds.

    python -m benchmarks.campaigns.experiments_cifar10 [--window SECONDS] [--write docs/results] [--tiny]

Pretext: SimCLR, a ResNet-10 of width 16, 30 epochs. Ablations train heads on cached embeddings, so that a row
takes seconds; Table 1 trains on images for three epochs a step. About two hours on two cores; run the same
command again until it says that all is done. `--only sela-imbalance` adds the one that trains pretexts anew.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.campaigns.runs import ROOT, Clock, arguments, publish
from benchmarks.harness import CORES
from rayscan.config import (
    EmbedConfig,
    EvaluateConfig,
    FleetConfig,
    OptimizerConfig,
    Recipe,
    ScanLossConfig,
    SelaConfig,
    SelfLabelConfig,
    SimCLRConfig,
)
from rayscan.recipes import by_name

DATA = ROOT.parent / "shared" / "data" / "cifar10"
ON_EMBEDDINGS = ("methods", "scan-fig2", "scan-fig6", "scan-fig7", "scan-fig8", "sela-clusters", "sela-heads")
ON_IMAGES = ("scan-table1",)
NOTE = (
    "**Direction only, not the paper's numbers**: 5,000 train and 5,000 eval images of CIFAR-10, a ResNet-10 "
    "of width 16, 30 epochs of SimCLR, three seeds, two CPU cores. {how}"
)


def recipe(*, is_tiny: bool, on_images: bool) -> Recipe:
    """CIFAR-10's pictures and views, a network and a schedule for two cores."""
    heads = OptimizerConfig(kind="adam", learning_rate=1e-2, weight_decay=0.0)
    adam = OptimizerConfig(kind="adam", learning_rate=3e-4, weight_decay=1e-4, schedule="constant")
    return replace(
        by_name("cifar10"),
        name="cifar10_cpu",
        pretext=SimCLRConfig(
            backbone="resnet10_w16",
            stem="cifar",
            temperature=0.2,
            epochs=1 if is_tiny else 30,
            batch_size=256,
            optimizer=OptimizerConfig(kind="adam", learning_rate=1e-3, weight_decay=1e-5, warmup_epochs=0.5),
        ),
        embed=EmbedConfig(space="backbone", num_views=3),
        scan=ScanLossConfig(
            inputs="both" if on_images else "embeddings",
            num_heads=2 if is_tiny else 10,
            head_epochs=2 if is_tiny else 50,
            head_optimizer=heads,
            heldout_fraction=0.1,
            epochs=1 if is_tiny else 3,
            batch_size=256,
            optimizer=adam,
        ),
        selflabel=SelfLabelConfig(
            inputs="images" if on_images else "embeddings",
            threshold=0.9,
            epochs=1 if is_tiny else (3 if on_images else 20),
            batch_size=256,
            optimizer=adam if on_images else replace(heads, learning_rate=1e-3),
            ema_decay=0.99,
        ),
        sela=SelaConfig(inputs="embeddings"),
        evaluate=EvaluateConfig(kmeans_n_init=2 if is_tiny else 10),
        fleet=FleetConfig(num_workers=1, cpus_per_worker=1, threads_per_worker=CORES),
    )


def main() -> None:
    """Run what is not done yet, as far as the window allows."""
    asked = arguments(__doc__, "runs/experiments_cifar10")
    clock = Clock(asked.window)
    options = [
        "--data",
        str(DATA / "cifar10-train-000000.tar"),
        "--seeds",
        str(1 if asked.tiny else asked.seeds),
    ]
    options += ["--eval-data", str(DATA / "cifar10-test-000000.tar")]
    for name in asked.only or (*ON_EMBEDDINGS, *ON_IMAGES):
        on_images = name in ON_IMAGES
        made = recipe(is_tiny=asked.tiny, on_images=on_images)
        if not clock.run(name, made, asked.out, options):
            print(f"the window is over in {name}: run the same command again to go on")
            return
        if asked.write is not None and not asked.tiny:
            how = "Trained on images." if on_images else "Heads trained on cached embeddings of three views."
            publish(asked.out, name, asked.write, "cifar10_cpu", NOTE.format(how=how))
    print("all is done")


if __name__ == "__main__":
    main()
