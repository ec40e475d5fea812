"""What learns fastest for its arithmetic: short pretext trainings of CIFAR-10 that cost the same.

    python -m benchmarks.pretext_trials --data ../shared/data/cifar10 [--out runs/pretext_trials]
                                        [--tera 80] [--shards 4] [--only NAME ...] [--write FILE.md] [--quick]

A trial is a setting and as many epochs as `--tera` 10^12 multiply-adds of its network pay for: forward 1,
backward 2, over all views, at the side that each epoch has. So machines, and what else runs on them, decide
nothing. Scored by the weighted kNN, a linear probe and k-means on one test shard, the only uses of labels;
the command resumes. Short trials favour what starts fast: a setting is taken for a long training where it
wins by more than seeds differ.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.campaign import Window, cifar10_options, scores_of
from benchmarks.cpu_cifar10 import ADAM, IMAGES_PER_SHARD, recipe
from benchmarks.harness import environment
from rayscan.config import BYOLConfig, MoCoConfig, OptimizerConfig, PretextConfig, Recipe, SimCLRConfig
from rayscan.nets.catalog import build_backbone

SIDE_PX = 32
BACKWARD = 2.0
"""Multiply-adds of a backward pass over those of a forward pass."""


@dataclass(frozen=True)
class Trial:
    """A setting, and the passes its method takes per image."""

    pretext: PretextConfig
    forwards: int = 2
    """Views through a network per image."""
    backwards: int = 2
    """Of these, with a gradient."""
    color: str = "exact"


SIMCLR = SimCLRConfig(
    backbone="resnet18_w32", projection_dim=128, temperature=0.2, batch_size=256, optimizer=ADAM
)
GROWING = replace(SIMCLR, first_px=16)
SHARED: dict[str, Any] = {
    "backbone": SIMCLR.backbone,
    "batch_size": 256,
    "first_px": 16,
    "optimizer": ADAM,
}
SGD = OptimizerConfig(kind="sgd", learning_rate=0.2, weight_decay=1e-4, warmup_epochs=1)
TRIALS: Mapping[str, Trial] = {
    "simclr": Trial(SIMCLR),
    "16 to 32 px": Trial(GROWING),
    "10 layers": Trial(replace(GROWING, backbone="resnet10_w48")),
    "narrow": Trial(replace(GROWING, backbone="resnet10_w32")),
    "fast colors": Trial(GROWING, color="fast"),
    "wide": Trial(replace(GROWING, backbone="resnet18")),
    "sgd": Trial(replace(GROWING, optimizer=SGD)),
    "batch 512": Trial(replace(GROWING, batch_size=512)),
    "rate 3e-3": Trial(replace(GROWING, optimizer=replace(ADAM, learning_rate=3e-3))),
    "T 0.1": Trial(replace(GROWING, temperature=0.1)),
    "moco": Trial(MoCoConfig(temperature=0.2, queue_size=4096, encoder_momentum=0.99, **SHARED), backwards=1),
    "byol": Trial(BYOLConfig(encoder_momentum=0.99, **SHARED), forwards=4, backwards=2),
}


def multiply_adds(backbone: str, side: int) -> int:
    """Multiply-adds of convolutions and products for one picture of that side, forward."""
    net = build_backbone(backbone, "cifar", is_sync=False).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 3, side, side))
    return int(counter.get_total_flops()) // 2


def cost_per_image(trial: Trial) -> float:
    """Multiply-adds of an image of the trial at full side."""
    passes = trial.forwards + BACKWARD * trial.backwards
    return passes * multiply_adds(trial.pretext.backbone, SIDE_PX)


def epochs_for(trial: Trial, budget: float, num_images: int) -> int:
    """Epochs that a budget of multiply-adds pays for, small views counted as such."""
    whole = cost_per_image(trial) * num_images
    epochs = 1
    while True:
        longer = replace(trial.pretext, epochs=epochs + 1)
        if whole * longer.epochs * longer.pixel_share(SIDE_PX) > budget:
            return epochs
        epochs += 1


def trial_recipe(trial: Trial, epochs: int, seed: int) -> Recipe:
    """The pretext of the trial, and scores of its features."""
    base = recipe(seed, is_tiny=False)
    return replace(
        base,
        name="pretext_trial",
        method="kmeans",
        images=replace(base.images, color=trial.color),
        pretext=replace(trial.pretext, epochs=epochs),
        embed=replace(base.embed, num_views=1),
    )


def main() -> None:
    """Run what is missing, then print the table."""
    asked = arguments()
    budget, names = asked.tera * 1e12, asked.only or list(TRIALS)
    train = f"{asked.data}/cifar10-train-" + f"{{000000..{asked.shards - 1:06d}}}.tar"
    test = f"{asked.data}/cifar10-test-000000.tar"
    rows, num_images = [], asked.shards * IMAGES_PER_SHARD
    for name in names:
        trial, out = TRIALS[name], asked.out / name.replace(" ", "-")
        epochs = 1 if asked.quick else epochs_for(trial, budget, num_images)
        if not Window(None).run(trial_recipe(trial, epochs, asked.seed), out, data=train, eval_data=test):
            raise SystemExit("stopped: run the same command again to go on")
        scores = scores_of(out)
        rows.append(
            {
                "trial": name,
                "epochs": epochs,
                "images": epochs * num_images,
                "knn": {k: 100 * v for k, v in scores["probes"]["knn"].items()},
                "linear": 100 * scores["probes"]["linear"],
                "kmeans": 100 * scores["splits"]["eval"]["methods"]["kmeans"]["acc"],
            }
        )
        asked.out.joinpath("trials.json").write_text(json.dumps(rows, indent=1))
    text = table(rows, asked.tera, num_images)
    print(text)
    if asked.write is not None:
        asked.write.write_text(text, encoding="ascii")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = cifar10_options(__doc__, "runs/pretext_trials")
    parser.add_argument("--tera", type=float, default=80.0, help="10^12 multiply-adds a trial")
    parser.add_argument("--shards", type=int, default=4, help="of 5,000 pictures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=list(TRIALS), help="these alone")
    parser.add_argument("--quick", action="store_true", help="one epoch each: a rehearsal")
    return parser.parse_args()


def table(rows: list[dict[str, Any]], tera: float, num_images: int) -> str:
    """Markdown, in the order of the trials."""
    where = environment()
    lines = [
        f"{num_images:,} train images, {tera:g} x 10^12 multiply-adds a trial, {where['processor']}, commit "
        f"{where['commit']}, {where['time'][:10]}; percent.",
        "",
        "| trial | epochs | images seen | kNN, k = 10 | kNN, k = 50 | linear probe | k-means |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        scores = (row["knn"]["10"], row["knn"]["50"], row["linear"], row["kmeans"])
        shown = " | ".join(f"{score:.1f}" for score in scores)
        lines.append(f"| {row['trial']} | {row['epochs']} | {row['images']:,} | {shown} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
