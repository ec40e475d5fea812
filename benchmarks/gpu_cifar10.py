"""CIFAR-10 on one GPU, in one command: what the card can do, what the pretext gets of it, all stages.

    python -m benchmarks.gpu_cifar10 --data shared/data/cifar10 [--out runs/gpu_cifar10] [--toy]
                                     [--recipe cifar10_fast] [--seeds 0] [--window 520]
                                     [--write docs/results/cifar10.md]

1. `card.json`: FLOP/s of a large bf16 matrix product, bytes/s of a copy on the card.
2. `speed.json`: SimCLR on ResNet-18, batch 512, pictures on the card: images/s (two views each) and
   the share of the matrix product's FLOP/s; goal >= 30 % (about 36,000 images/s on an H200).
3. index to evaluate by `rayscan run`, ten train shards and both test shards: seconds of each stage, ACC, NMI,
   ARI on the test split; goals: <= 25 minutes, ACC >= 88.3 (the SCAN paper's best), stretch 91.

`--window 520` stops in time for a limit of nine minutes; the same command goes on where it stopped, until it
says done. What is finished is not measured again. `--toy` rehearses all of it on a CPU, small, on two
shards; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.campaign import Window, cifar10_options, scores_of, times_of
from benchmarks.harness import environment
from benchmarks.pretext import Ours, write_pictures
from rayscan.config import FleetConfig, Recipe
from rayscan.recipes import by_name

ROUNDS = 5
METRICS = ("acc", "nmi", "ari")


def main() -> None:
    """All three parts, as far as the window allows."""
    asked = arguments()
    device = "cpu" if asked.toy else "cuda"
    if not asked.toy and not torch.cuda.is_available():
        raise SystemExit("no CUDA device: pass --toy to rehearse on the CPU")
    window = Window(asked.window)
    asked.out.mkdir(parents=True, exist_ok=True)
    card = kept(asked.out / "card.json", lambda: measure_card(device, 512 if asked.toy else 8192))
    speed = kept(asked.out / "speed.json", lambda: measure_pretext(device, card, is_toy=asked.toy))
    print(json.dumps({**card, **speed}, indent=2))
    last = "000001" if asked.toy else "000009"
    data = f"{asked.data}/cifar10-train-{{000000..{last}}}.tar"
    eval_data = f"{asked.data}/cifar10-test-" + ("000000.tar" if asked.toy else "{000000..000001}.tar")
    outs = {seed: asked.out / f"seed{seed}" for seed in asked.seeds}
    for seed, out in outs.items():
        made = toy(by_name(asked.recipe), seed) if asked.toy else on_card(by_name(asked.recipe), seed)
        if not window.run(made, out, data=data, eval_data=eval_data):
            print("the window is over: run the same command again to go on")
            return
    text = table(asked.recipe, card, speed, outs)
    print(text + "\ndone")
    if asked.write is not None and not asked.toy:
        asked.write.write_text(text, encoding="ascii")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = cifar10_options(__doc__, "runs/gpu_cifar10")
    parser.add_argument("--recipe", default="cifar10_fast")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--window", type=float, metavar="SECONDS", help="stop in time and resume later")
    parser.add_argument("--toy", action="store_true", help="rehearse on the CPU")
    return parser.parse_args()


def on_card(recipe: Recipe, seed: int) -> Recipe:
    """One worker that has the card."""
    return replace(recipe, seed=seed, fleet=FleetConfig(num_workers=1, gpus_per_worker=1))


def toy(recipe: Recipe, seed: int) -> Recipe:
    """The same stages in minutes on two cores."""
    return replace(
        recipe,
        seed=seed,
        pretext=replace(recipe.pretext, backbone="resnet10_w16", epochs=1),
        scan=replace(recipe.scan, epochs=1, head_epochs=2, num_heads=2, batch_size=500),
        selflabel=replace(recipe.selflabel, epochs=1, threshold=0.2),
        evaluate=replace(recipe.evaluate, kmeans_n_init=2, probe_images=2_000),
        fleet=FleetConfig(num_workers=1, gpus_per_worker=0, threads_per_worker=2),
    )


def kept(path: Path, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What was measured before, or measured now."""
    if not path.exists():
        path.write_text(json.dumps(measure(), indent=2))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def seconds_of(work: Callable[[], object], device: str) -> float:
    """Median over rounds, the device waited for."""
    taken = []
    for number in range(-2, ROUNDS):
        began = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        if number >= 0:
            taken.append(time.perf_counter() - began)
    return median(taken)


def measure_card(device: str, size: int) -> dict[str, Any]:
    """bf16 FLOP/s of a product of `size`, and bytes/s read and written by a copy."""
    a, b = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    out = torch.empty_like(a)
    product = seconds_of(lambda: torch.mm(a, b, out=out), device)
    block = torch.empty(8 * size * size, dtype=torch.uint8, device=device)
    copy = seconds_of(lambda: block.clone(), device)
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "bf16_tflops": 2 * size**3 / product / 1e12,
        "copy_gbytes_per_second": 2 * block.numel() / copy / 1e9,
    }


def measure_pretext(device: str, card: dict[str, Any], *, is_toy: bool) -> dict[str, Any]:
    """Images per second of whole steps with their data, and the share of the product's FLOP/s."""
    batch, steps = (64, 2) if is_toy else (512, 64)
    with TemporaryDirectory() as folder:
        paths = write_pictures(Path(folder) / "pictures", batch * steps)
        ours = Ours(paths, Path(folder), batch, device, "resnet10_w16" if is_toy else "resnet18")
        step, epoch = seconds_of(ours.step, device), seconds_of(ours.epoch, device) / steps
        flops = ours.flops()
    return {
        "batch": batch,
        "images_per_second": batch / epoch,
        "images_per_second_without_data": batch / step,
        "share_of_bf16_product": flops / epoch / 1e12 / card["bf16_tflops"],
    }


def table(recipe: str, card: dict[str, Any], speed: dict[str, Any], outs: dict[int, Path]) -> str:
    """Markdown."""
    where = environment()
    lines = [
        "# CIFAR-10",
        "",
        f"Recipe `{recipe}`, one {card['device']}; commit {where['commit']}, torch "
        f"{where['versions']['torch']}, {where['time'][:10]}.",
        "",
        f"- matrix product {card['bf16_tflops']:.0f} TFLOP/s in bf16, copy "
        f"{card['copy_gbytes_per_second']:.0f} GB/s",
        f"- SimCLR on ResNet-18, batch {speed['batch']}: {speed['images_per_second']:,.0f} images/s with two "
        f"views each, {100 * speed['share_of_bf16_product']:.0f} % of the product's FLOP/s; goal 30 %",
        "",
        "Test split, in percent, mapping fitted on it; seconds by stage over all windows.",
        "",
        "| seed | method | ACC | NMI | ARI | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for seed, out in outs.items():
        times = times_of(out)
        by_stage = ", ".join(f"{name} {seconds:.0f}" for name, seconds in times.items())
        methods = scores_of(out)["splits"]["eval"]["methods"]
        for method, scores in methods.items():
            row = " | ".join(f"{100 * scores[m]:.2f}" for m in METRICS)
            shown = f"{sum(times.values()):.0f}: {by_stage}" if method == "scan" else ""
            lines.append(f"| {seed} | {method} | {row} | {shown} |")
    lines += ["", "Goals: ACC >= 88.3, 1,500 s."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
