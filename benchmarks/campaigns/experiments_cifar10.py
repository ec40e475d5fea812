"""The experiments of the papers on CIFAR-10, as far as two cores go: 10,000 pictures, three seeds.

    python -m benchmarks.campaigns.experiments_cifar10 --pretext runs/cpu_cifar10_long/pretext
        [--out DIR] [--seeds N] [--window SECONDS] [--write docs/results] [--only NAME ...] [--tiny]

Most stand on the network of `benchmarks.cpu_cifar10_long`: heads on its embeddings, or three epochs a step on
images. What compares pretexts trains small ones of its own. Run the same command again until it says that all
is done.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.campaign import SHARED, Window
from benchmarks.campaigns.runs import arguments, publish, run_experiment
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
from rayscan.recipes.cifar10 import ADAM
from rayscan.run import Run

DATA = SHARED / "cifar10"
ON_EMBEDDINGS = (
    "methods",
    "scan-fig2",
    "scan-fig6",
    "scan-fig7",
    "scan-fig8",
    "sela-clusters",
    "sela-heads",
    "sela-relabelings",
    "sela-imbalance",
    "kmeans-dimensions",
    "kmeans-clusters",
)
"""Heads on the embeddings of the network of `--pretext`."""
ON_IMAGES = ("scan-table1", "scan-table3", "scan-table4", "scan-fig4", "scan-fig5", "sela-transfer")
"""That network goes on training."""
FROM_SCRATCH = ("scan-table2",)
"""Pretexts of their own."""
NOTE = (
    "**Direction only, not the paper's numbers**: 10,000 train and 5,000 eval images of CIFAR-10, two CPU "
    "cores. {how}"
)
HOW = {
    ON_EMBEDDINGS: "Heads on embeddings of three views by the network of [the long run](../cpu_cifar10.md).",
    ON_IMAGES: "The network of [the long run](../cpu_cifar10.md), trained on images for three epochs a step.",
    FROM_SCRATCH: "A ResNet-10 of width 16, 30 epochs of each pretext; heads, then three epochs a step.",
}
"""Experiments -> what their page says of the network."""


def recipe(name: str, pretext: Path | None, *, is_tiny: bool) -> Recipe:
    """CIFAR-10's pictures and views, a network and a schedule for two cores.

    Args:
        name: Of the experiment.
        pretext: The run whose network is taken; none trains one.
        is_tiny: Rehearse.
    """
    on_images = name not in ON_EMBEDDINGS
    heads = OptimizerConfig(kind="adam", learning_rate=1e-2, weight_decay=0.0)
    net = SMALL if pretext is None else Run(str(pretext)).recipe.pretext
    return replace(
        by_name("cifar10"),
        name="cifar10_cpu",
        features=("own",) if pretext is None else (f"checkpoint:{pretext.resolve()}",),
        pretext=replace(net, epochs=1 if is_tiny else EPOCHS),
        embed=EmbedConfig(space="backbone", num_views=3),
        scan=ScanLossConfig(
            inputs="both" if on_images else "embeddings",
            num_heads=2 if is_tiny else 10,
            head_epochs=2 if is_tiny else 50,
            head_optimizer=heads,
            heldout_fraction=0.1,
            epochs=1 if is_tiny else 3,
            batch_size=256,
            optimizer=ADAM,
        ),
        selflabel=SelfLabelConfig(
            inputs="images" if on_images else "embeddings",
            threshold=0.9,
            epochs=1 if is_tiny else (3 if on_images else 20),
            batch_size=256,
            optimizer=ADAM if on_images else replace(heads, learning_rate=1e-3),
            ema_decay=0.99,
        ),
        sela=SelaConfig(inputs="images" if on_images else "embeddings"),
        evaluate=EvaluateConfig(kmeans_n_init=2 if is_tiny else 10),
        fleet=FleetConfig(num_workers=1, cpus_per_worker=1, threads_per_worker=CORES),
    )


EPOCHS = 30
"""Of pretexts that are trained here, and of the supervised row."""
SMALL = SimCLRConfig(
    backbone="resnet10_w16",
    stem="cifar",
    temperature=0.2,
    batch_size=256,
    optimizer=OptimizerConfig(kind="adam", learning_rate=1e-3, weight_decay=1e-5, warmup_epochs=0.5),
)


def main() -> None:
    """Run what is not done yet, as far as the window allows."""
    asked = arguments(__doc__, "runs/experiments_cifar10", takes_pretext=True)
    window, shards = Window(asked.window), "000000" if asked.tiny else "{000000..000001}"
    options = ["--data", str(DATA / f"cifar10-train-{shards}.tar")]
    options += ["--seeds", str(1 if asked.tiny else asked.seeds)]
    options += ["--eval-data", str(DATA / "cifar10-test-000000.tar")]
    for group, how in HOW.items():
        pretext = None if group is FROM_SCRATCH else asked.pretext
        for name in (one for one in group if not asked.only or one in asked.only):
            if not run_experiment(
                window, name, recipe(name, pretext, is_tiny=asked.tiny), asked.out, options
            ):
                print(f"the window is over in {name}: run the same command again to go on")
                return
            if asked.write is not None and not asked.tiny:
                publish(asked.out, name, asked.write, "cifar10_cpu", NOTE.format(how=how))
    print("all is done")


if __name__ == "__main__":
    main()
