"""What the methods cost: heads on embeddings, choosing a head without labels, Sinkhorn-Knopp.

    python -m benchmarks.methods --json F [--quick]

`ratio_heads_vs_images`: an epoch of SCAN heads (ten heads, C 10) from images through a frozen CIFAR-size
ResNet-18, two RandAugment views decoded already, over the same epoch on cached features; 2,048 images (512).
`ratio_heads_vs_batched`: logits of ten heads and their gradient, 1,024 rows of 1,280, by `ClusterHeads` over
`torch.baddbmm`, one thin product a head.
`validation_seconds`, `validation_peak_mb`: the held-out loss of one head over the fixed graph of N = 50,000
images, k = 5, C = 1,000 (both sizes), in a process of its own: memory above that after the imports, logits
included. Its value is held against the dense N x N definition on 2,000 images.
`ratio_sinkhorn_vs_numpy64`: a pass of the probability-domain iteration of SeLa Eq. 9 in NumPy float64 over a
pass of ours, N = 100,000 x K = 3,000 (20,000 x 1,000), lambda 25; 100 passes from the same start, so at equal
marginal error, which is checked; exp and power, which begin them, count. Threads are those of
OMP_NUM_THREADS for both.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.harness import ROOT, Report, Times, interleaved, options, peak_bytes, ratio
from rayscan.config import ImagesConfig
from rayscan.data.keyed import Draw
from rayscan.data.views import make_views, view_boxes
from rayscan.nets.catalog import build_backbone
from rayscan.nets.heads import ClusterHeads, ClusterNet
from rayscan.objectives.scan import Scan
from rayscan.objectives.scan_loss import ScanLoss
from rayscan.objectives.selection import HeldoutGraph
from rayscan.vectors.sinkhorn import sinkhorn
from testing.objectives import scan_of

BATCH = 128
PASSES = 100
NODES, CLUSTERS, NEIGHBORS = 50_000, 1_000, 5
IMAGES = ImagesConfig(size_px=32, canvas_px=32)


def main() -> None:
    """Measure and report."""
    asked = options(__doc__)
    report = Report(asked, "methods")
    report.ceilings()
    times = heads_against_images(report, 512 if asked.quick else 2_048)
    times |= heads_against_batched(report)
    validation(report)
    times |= sinkhorn_against_numpy(report, *((20_000, 1_000) if asked.quick else (100_000, 3_000)))
    report.finish(times)


def heads_against_images(report: Report, num_images: int) -> dict[str, Times]:
    """The same epoch from pictures and from what was computed of them once."""
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (num_images, 3, 32, 32), dtype=np.uint8))
    neighbors = rng.integers(0, num_images, num_images)
    torch.manual_seed(0)
    backbone = build_backbone("resnet18", "cifar", is_sync=False)
    net = ClusterNet(backbone, ClusterHeads(10, backbone.dim, 10), is_normalized=True)
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    features = nn.functional.normalize(torch.randn(num_images, backbone.dim), dim=1)

    def views(gids: np.ndarray, view: int) -> Tensor:
        draw, side = Draw(0, 0, gids, (view,)), np.full(len(gids), 32)
        boxes = view_boxes("randaugment", draw, side, side, 32)
        return make_views(pixels[torch.from_numpy(gids)], boxes, "randaugment", draw, IMAGES)

    def cached(gids: np.ndarray, _view: int) -> Tensor:
        return features[torch.from_numpy(gids)]

    net.backbone.requires_grad_(requires_grad=False)
    on_images = scan_of(net, ScanLoss(5.0))
    on_features = scan_of(ClusterHeads(10, backbone.dim, 10), ScanLoss(5.0))
    times = interleaved(
        {
            "scan_from_images": _epoch(on_images, views, neighbors),
            "scan_heads_cached": _epoch(on_features, cached, neighbors),
        },
        rounds=report.asked.rounds,
    )
    gain = ratio(times["scan_from_images"], times["scan_heads_cached"])
    report.value("ratio_heads_vs_images", gain, goal=(">=", 50))
    report.detail("images", num_images)
    return times


def heads_against_batched(report: Report) -> dict[str, Times]:
    """Ten heads as one product and as ten, forward and backward."""
    torch.manual_seed(0)
    heads = ClusterHeads(10, 1_280, 10)
    features = nn.functional.normalize(torch.randn(1_024, 1_280), dim=1)

    def batched(rows: Tensor) -> Tensor:
        weight, bias = heads.weight.transpose(1, 2), heads.bias.unsqueeze(1)
        return torch.baddbmm(bias, rows.expand(len(weight), -1, -1), weight)

    def gradient(of: Callable[[Tensor], Tensor]) -> Tensor:
        heads.zero_grad(set_to_none=True)
        of(features).log_softmax(-1).exp().square().sum().backward()
        assert heads.weight.grad is not None
        return heads.weight.grad

    apart = float((gradient(heads) - gradient(batched)).abs().max())
    times = interleaved(
        {"heads_one_product": lambda: gradient(heads), "heads_batched": lambda: gradient(batched)},
        rounds=report.asked.rounds,
    )
    report.value("ratio_heads_vs_batched", ratio(times["heads_one_product"], times["heads_batched"]))
    report.detail("heads_gradient_difference", apart)
    return times


def _epoch(
    objective: Scan, fetch: Callable[[np.ndarray, int], Tensor], neighbors: np.ndarray
) -> Callable[[], None]:
    """One epoch of forward, backward and Adam steps."""
    trained = [p for p in objective.module.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-3)

    def epoch() -> None:
        for first in range(0, len(neighbors), BATCH):
            gids = np.arange(first, min(first + BATCH, len(neighbors)))
            batch = {"anchors": fetch(gids, 0), "neighbors": fetch(neighbors[gids], 1), "count": len(gids)}
            objective.loss(batch).total.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return epoch


def validation(report: Report) -> None:
    """Time and memory of the label-free loss, each round in a fresh process."""
    asked = f"from benchmarks.methods import validate_once; validate_once({NODES}, {CLUSTERS})"
    rounds = [
        json.loads(
            subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, check=True).stdout
        )
        for _ in range(report.asked.rounds)
    ]
    seconds, peaks = ([float(r[key]) for r in rounds] for key in ("seconds", "peak_mb"))
    report.value("validation_peak_mb", max(peaks), goal=("<=", 600))
    report.value("validation_seconds", float(np.median(seconds)))
    report.detail("validation_rounds", rounds)
    report.detail("validation_dense_difference", _difference_to_dense(2_000))


def validate_once(num_nodes: int, num_clusters: int) -> None:
    """Print seconds and the peak of memory of one look at the graph, as JSON."""
    before = peak_bytes()
    logits = torch.randn(1, num_nodes, num_clusters, generator=torch.Generator().manual_seed(0)).mul_(4)
    graph = _graph(num_nodes)
    began = time.perf_counter()
    loss = float(graph.losses(logits)[0])
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "peak_mb": (peak_bytes() - before) / 1e6, "loss": loss}))


def _graph(num_nodes: int) -> HeldoutGraph:
    anchors = np.repeat(np.arange(num_nodes), NEIGHBORS)
    neighbors = np.random.default_rng(1).integers(0, num_nodes, num_nodes * NEIGHBORS)
    return HeldoutGraph(np.arange(num_nodes), anchors, neighbors)


def _difference_to_dense(num_nodes: int) -> float:
    """Relative difference to the loss read from the N x N matrix of dot products, float64."""
    logits = np.random.default_rng(2).normal(size=(num_nodes, CLUSTERS)) * 4
    graph = _graph(num_nodes)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    mean = p.mean(0)
    dense = -np.log(p @ p.T)[graph.anchors, graph.neighbors].mean() + (mean * np.log(mean)).sum()
    return abs(float(graph.losses(torch.from_numpy(logits)[None])[0]) - dense) / abs(dense)


def sinkhorn_against_numpy(report: Report, num_images: int, num_clusters: int) -> dict[str, Times]:
    """The same passes each; preparation (exp, power) counts for both."""
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(num_images, 64, generator=generator)
    logits = features @ torch.randn(64, num_clusters, generator=generator) / 64**0.5
    log_probs = logits.log_softmax(1)
    probabilities = log_probs.double().exp().numpy()
    marginals = torch.full((num_clusters,), 1 / num_clusters, dtype=torch.float64)

    def ours() -> float:
        scores = 25.0 * log_probs
        return sinkhorn(
            lambda first, stop: scores[first:stop],
            num_images,
            marginals,
            tolerance=0.0,
            max_iterations=PASSES,
            memory_bytes=1 << 40,
        ).error

    times = interleaved(
        {"sinkhorn": ours, "numpy64": lambda: numpy_sinkhorn(probabilities, 25.0, PASSES)},
        rounds=report.asked.rounds,
    )
    report.value(
        "ratio_sinkhorn_vs_numpy64", ratio(times["numpy64"], times["sinkhorn"], "wall"), goal=(">=", 3)
    )
    report.value("sinkhorn_seconds_per_pass", float(np.median(times["sinkhorn"].wall)) / PASSES)
    report.detail("sinkhorn_size", [num_images, num_clusters])
    report.detail("marginal_error", {name: times[name].result for name in ("sinkhorn", "numpy64")})
    return times


def numpy_sinkhorn(probabilities: np.ndarray, weight: float, passes: int) -> float:
    """SeLa Eq. 9 as written, in float64; returns the marginal error before the last update."""
    num_images, num_clusters = probabilities.shape
    powered = probabilities**weight
    alpha = np.ones(num_clusters)
    for _ in range(passes):
        beta = (1 / num_images) / (powered @ alpha)
        mass = powered.T @ beta
        error = float(np.abs(alpha * mass - 1 / num_clusters).sum())
        alpha = (1 / num_clusters) / mass
    return error


if __name__ == "__main__":
    main()
