"""Do fast colors cost accuracy? A short SimCLR on CIFAR-10 pictures, exact against fast colors, same seeds.

    python -m benchmarks.color_modes --json F [--quick] [--rounds SEEDS]

Each seed trains twice, from the same weights, on the same images in the same order with the same drawn
strengths; only `images.color` differs. Score: weighted kNN (k = 20) on the backbone's features of images
that were not trained on. Goal: the mean difference, fast less exact, is no worse than half a point. Labels
are read to score, never to choose.

--quick rehearses it on 1,000 images for one epoch; its scores mean nothing. Without: 10,000 images, 20
epochs, half an hour on two cores.
"""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.feeding import sets
from benchmarks.harness import CORES, Report, options
from rayscan.config import OptimizerConfig, SimCLRConfig
from rayscan.data.labels import read_members
from rayscan.data.loader import ViewLoader
from rayscan.data.order import Order
from rayscan.data.sources.base import Scan
from rayscan.data.sources.tar import scan_tar
from rayscan.data.table import ImageTable
from rayscan.engine.optimizer import build_optimizer, learning_rate
from rayscan.losses.nt_xent import nt_xent
from rayscan.metrics.probes import weighted_knn
from rayscan.objectives.pretexts import build_projected_net
from rayscan.recipes.cifar10 import IMAGES

Color = Literal["exact", "fast"]
NEIGHBORS, CLASSES = 20, 10
OPTIMIZER = OptimizerConfig(
    kind="sgd", learning_rate=0.2, weight_decay=5e-4, schedule="cosine", warmup_epochs=1
)
PRETEXT = SimCLRConfig(backbone="resnet10_w16", stem="cifar", batch_size=256, optimizer=OPTIMIZER)


class Size(NamedTuple):
    """How much is trained."""

    shards: int
    images: int
    held_out: int
    epochs: int


SIZES = {True: Size(1, 1000, 500, 1), False: Size(3, 10_000, 4000, 20)}


def main() -> None:
    """Train, score, report."""
    asked = options(__doc__)
    torch.set_num_threads(CORES)
    report = Report(asked, "color_modes")
    size = SIZES[asked.quick]
    with tempfile.TemporaryDirectory() as name:
        uris, what = sets.shards(Path(name), "cifar10", size.shards)
        scans = [scan_tar(uri, max_pixels=10**6) for uri in uris]
        table, labels = sets.table_of(scans), labels_of(scans)
        scores: dict[Color, list[float]] = {"exact": [], "fast": []}
        for seed in range(asked.rounds):
            for color in scores if seed % 2 == 0 else reversed(scores):
                scores[color].append(accuracy(table, labels, size, color, seed))
                print(f"seed {seed} {color:5} kNN {scores[color][-1]:.2%}", flush=True)
    gains = [fast - exact for exact, fast in zip(scores["exact"], scores["fast"], strict=True)]
    for color, values in scores.items():
        report.value(f"knn_{color}", statistics.mean(values))
        report.detail(f"knn_{color}_sd", statistics.stdev(values))
        report.detail(f"knn_{color}_seeds", values)
    report.value("fast_less_exact", statistics.mean(gains), goal=(">=", -0.005))
    report.detail("fast_less_exact_sd", statistics.stdev(gains))
    report.detail("images", what)
    report.detail("size", size._asdict())
    report.finish()


def labels_of(scans: list[Scan]) -> np.ndarray:
    """Classes of all images, by gid."""
    found = []
    for number, scan in enumerate(scans):
        rows = read_members(scan.uri, number).to_pylist()
        by_key = {row["key"]: int(row["label"]) for row in rows}
        found += [by_key[key] for key in scan.rows["key"].to_pylist()]
    return np.array(found)


def accuracy(table: ImageTable, labels: np.ndarray, size: Size, color: Color, seed: int) -> float:
    """Train one net and classify the images behind those it was trained on."""
    loader = ViewLoader(table, replace(IMAGES, color=color), seed)
    torch.manual_seed(seed)
    net = build_projected_net(PRETEXT).to(memory_format=torch.channels_last)
    train(net, loader, Order(np.arange(size.images), PRETEXT.batch_size, seed), size.epochs)
    net.eval()
    known = features(net.backbone, loader, np.arange(size.images))
    gids = np.arange(size.images, size.images + size.held_out)
    asked = features(net.backbone, loader, gids)
    truth = torch.from_numpy(labels)
    voted = weighted_knn(known, truth[: size.images], asked, [NEIGHBORS], num_classes=CLASSES)[NEIGHBORS]
    return float((voted == truth[gids]).double().mean())


def train(net: torch.nn.Module, loader: ViewLoader, order: Order, epochs: int) -> None:
    """SimCLR with the symmetric NT-Xent loss, in this process."""
    optimizer = build_optimizer(net, OPTIMIZER)
    net.train()
    for epoch in range(epochs):
        for step in range(order.num_steps):
            rate = learning_rate(OPTIMIZER, epoch * order.num_steps + step, order.num_steps, epochs)
            for group in optimizer.param_groups:
                group["lr"] = rate
            views = loader.views(order.batch(epoch, step), "simclr", epoch).flatten(0, 1)
            projected = normalize(net(views.contiguous(memory_format=torch.channels_last)))
            rows = torch.arange(len(projected))
            loss = nt_xent(projected, projected, rows, rows.roll(len(rows) // 2), PRETEXT.temperature)
            optimizer.zero_grad(set_to_none=True)
            (loss / len(rows)).backward()
            optimizer.step()


def features(backbone: torch.nn.Module, loader: ViewLoader, gids: np.ndarray) -> Tensor:
    """Unit rows of plain views."""
    with torch.no_grad():
        parts = [
            normalize(backbone(loader.plain(part))) for part in np.array_split(gids, -(-len(gids) // 500))
        ]
    return torch.cat(parts)


if __name__ == "__main__":
    main()
