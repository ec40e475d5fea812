"""Real pictures on a laptop's CPU: 10,000 CIFAR-10 images, about 20 minutes of pretext per seed on two cores.

    python -m benchmarks.cpu_cifar10 --data shared/data/cifar10 [--out runs/cpu_cifar10] [--seeds 0 1 2]
                                     [--window SECONDS] [--write FILE.md] [--tiny]

Trains on the first 10,000 train images (two shards of 5,000), scores on the 5,000 of one test shard; the kNN
probe takes 2,000 of them. One worker of as many threads as there are cores, bf16 where the processor has
units for it. The command resumes: run it again until it prints the table. Labels are read by evaluate alone.
 `--tiny` rehearses everything in minutes; its scores mean nothing.

Goals: weighted kNN with k = 50 (as SeLa's) >= 57 %, raw pixels 36.6 %; purity of 20 neighbors >= 42 %, raw
pixels 26.1 %; ACC of SCAN on eval beside k-means on the same features.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.campaign import Window, cifar10_options, scores_of, times_of
from benchmarks.harness import CORES, environment
from rayscan.config import (
    EmbedConfig,
    EvaluateConfig,
    FleetConfig,
    OptimizerConfig,
    Recipe,
    ScanLossConfig,
    SelfLabelConfig,
    SimCLRConfig,
)
from rayscan.recipes import by_name

IMAGES_PER_SHARD = 5_000
GOALS = {"kNN, k = 50": 57.0, "purity@20": 42.0}


def recipe(seed: int, *, is_tiny: bool) -> Recipe:
    """CIFAR-10's pictures and views, with a network and a schedule for two cores."""
    base = by_name("cifar10")
    return replace(
        base,
        name="cpu_cifar10",
        seed=seed,
        pretext=PRETEXT if not is_tiny else replace(PRETEXT, backbone="resnet10_w16", epochs=1),
        embed=EmbedConfig(space="backbone", num_views=1 if is_tiny else 5),
        scan=ScanLossConfig(
            inputs="embeddings",
            num_neighbors=20,
            num_heads=2 if is_tiny else 10,
            head_epochs=2 if is_tiny else 100,
            head_batch_size=512,
            head_optimizer=OptimizerConfig(kind="adam", learning_rate=1e-3, weight_decay=0.0),
            heldout_fraction=0.1,
            views="simclr",
        ),
        selflabel=SelfLabelConfig(inputs="embeddings", epochs=0),
        evaluate=EvaluateConfig(probe_images=10_000, kmeans_n_init=2 if is_tiny else 10),
        fleet=FleetConfig(num_workers=1, cpus_per_worker=1, threads_per_worker=CORES),
    )


ADAM = OptimizerConfig(kind="adam", learning_rate=1e-3, weight_decay=1e-5, warmup_epochs=2)
PRETEXT = SimCLRConfig(
    backbone="resnet10_w32",
    stem="cifar",
    projection_dim=128,
    temperature=0.2,
    views="simclr",
    epochs=64,
    batch_size=256,
    optimizer=ADAM,
)


def main() -> None:
    """Run every seed as far as the window allows; then the table."""
    asked = arguments()
    window = Window(asked.window)
    outs = {seed: asked.out / f"seed{seed}" for seed in asked.seeds}
    train = f"{asked.data}/cifar10-train-" + ("000000.tar" if asked.tiny else "{000000..000001}.tar")
    for seed, out in outs.items():
        made = recipe(seed, is_tiny=asked.tiny)
        test = f"{asked.data}/cifar10-test-000000.tar"
        if not window.run(made, out, data=train, eval_data=test):
            print("the window is over: run the same command again to go on")
            return
    text = table(outs, asked)
    print(text)
    if asked.write is not None and not asked.tiny:
        asked.write.write_text(text, encoding="ascii")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = cifar10_options(__doc__, "runs/cpu_cifar10")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--window", type=float, metavar="SECONDS", help="stop in time and resume later")
    parser.add_argument("--tiny", action="store_true", help="rehearse in minutes")
    return parser.parse_args()


def rows_of(out: Path) -> dict[str, float]:
    """What is reported of a seed, in percent; minutes of the pretext."""
    scores, eval_split = scores_of(out), scores_of(out)["splits"]["eval"]["methods"]
    return {
        **{f"kNN, k = {k}": 100 * v for k, v in by_number(scores["probes"]["knn"])},
        "linear probe": 100 * scores["probes"]["linear"],
        "purity@20": 100 * scores["neighbor_purity"]["20"],
        "SCAN ACC": 100 * eval_split["scan"]["acc"],
        "k-means ACC": 100 * eval_split["kmeans"]["acc"],
        "SCAN NMI": 100 * eval_split["scan"]["nmi"],
        "k-means NMI": 100 * eval_split["kmeans"]["nmi"],
        "pretext, minutes": times_of(out).get("pretext", 0.0) / 60,
    }


def by_number(values: dict[str, float]) -> list[tuple[str, float]]:
    """Items by rising number."""
    return sorted(values.items(), key=lambda item: int(item[0]))


def table(outs: dict[int, Path], asked: argparse.Namespace) -> str:
    """Markdown: one column a seed, mean and sample deviation, goals."""
    columns = {seed: rows_of(out) for seed, out in outs.items()}
    where: dict[str, Any] = environment()
    settings = recipe(0, is_tiny=asked.tiny).pretext
    lines = [
        "# CIFAR-10 on a CPU",
        "",
        f"10,000 train images; {settings.backbone} with the {settings.stem} stem, SimCLR, {settings.epochs} "
        f"epochs, batch {settings.batch_size}; heads on cached features.",
        "Scores on the 5,000 images of one test shard, the kNN on 2,000 of them; in percent.",
        f"Machine: {where['cores']} cores, {where['processor']}; commit {where['commit']}; torch "
        f"{where['versions']['torch']}; {where['time'][:10]}.",
        "",
        "| | " + " | ".join(f"seed {s}" for s in columns) + " | mean +- deviation | goal |",
        "|---|" + "---|" * (len(columns) + 2),
    ]
    for name in next(iter(columns.values())):
        values = [column[name] for column in columns.values()]
        deviation = f" +- {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        goal = f">= {GOALS[name]:g}" if name in GOALS else ""
        shown = " | ".join(f"{v:.2f}" for v in values)
        lines.append(f"| {name} | {shown} | {statistics.mean(values):.2f}{deviation} | {goal} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
