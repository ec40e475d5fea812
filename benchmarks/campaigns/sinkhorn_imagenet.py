"""Sinkhorn-Knopp at the size of ImageNet: 1,281,167 x 3,000, lambda 25, time of a pass and its growth with N.

    python -m benchmarks.campaigns.sinkhorn_imagenet [--memory-gb 4] [--passes 3] [--solve] [--json FILE]
                                                   [--tiny]

Scores come block by block from random features of 128 numbers and a random head, as in `--method sela`.
The matrix takes 15.4 GB in float32; where that does not fit into `--memory-gb`, it is made in every pass.
One process; N grows from an eighth to the whole. Reports seconds a pass (the first, which also fills what
is kept, apart) and the peak of memory so far. With `--memory-gb 0` all sizes stream: a minute or two on
two cores; with 17 GB to spare, `--memory-gb 16` keeps all. `--solve` also goes on for the whole N until the
sizes are within 1 %: once the factors settle, small entries are dropped and passes take a fraction.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from benchmarks.harness import environment, peak_bytes
from rayscan.nets.heads import ClusterHeads
from rayscan.objectives.sela import linear_scores
from rayscan.vectors.sinkhorn import Scores, sinkhorn

IMAGES, CLUSTERS, DIM = 1_281_167, 3_000, 128


def main() -> None:
    """Measure each N in turn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--memory-gb", type=float, default=4.0)
    parser.add_argument("--passes", type=int, default=3, help="passes that are timed")
    parser.add_argument("--solve", action="store_true", help="also solve for the whole N")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--tiny", action="store_true", help="a hundredth of the images")
    asked = parser.parse_args()
    whole = IMAGES // 100 if asked.tiny else IMAGES
    rows = [measure(whole // part, asked.memory_gb, asked.passes) for part in (8, 4, 2, 1)]
    for row in rows:
        print("  ".join(f"{key} {value:,.4g}" for key, value in row.items()))
    growth = None
    if len({row["is_kept"] for row in rows}) == 1:  # else the small ones are kept and the large ones stream
        growth = rows[-1]["seconds_per_pass"] / rows[0]["seconds_per_pass"]
        print(f"8 times the images take {growth:.2f} times as long")
    solved = solve(whole, asked.memory_gb) if asked.solve else None
    if solved is not None:
        print("  ".join(f"{key} {value:,.4g}" for key, value in solved.items()))
    if asked.json is not None:
        written = {"environment": environment(), "memory_gb": asked.memory_gb, "rows": rows}
        written |= {"growth_8x": growth, "solved": solved}
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(json.dumps(written, indent=2) + "\n", encoding="ascii")


def random_scores(num_images: int) -> Scores:
    """Lambda times the logits of a random head on random features."""
    torch.manual_seed(0)
    heads = ClusterHeads(1, DIM, CLUSTERS).requires_grad_(requires_grad=False)
    heads.weight.normal_(std=DIM**-0.5)
    return linear_scores(heads, 0, torch.randn(num_images, DIM), 25.0)


def solve(num_images: int, memory_gb: float) -> dict[str, float]:
    """Seconds and passes until the cluster sizes are within 1 %."""
    began = time.perf_counter()
    found = sinkhorn(
        random_scores(num_images),
        num_images,
        torch.full((CLUSTERS,), 1 / CLUSTERS),
        tolerance=0.01,
        memory_bytes=int(memory_gb * 1e9),
    )
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "passes": found.iterations,
        "marginal_error": found.error,
        "peak_gb": peak_bytes() / 1e9,
    }


def measure(num_images: int, memory_gb: float, passes: int) -> dict[str, float]:
    """Seconds of the first pass and of the `passes` after it, for one N."""
    scores, ends = random_scores(num_images), [time.perf_counter()]
    found = sinkhorn(
        scores,
        num_images,
        torch.full((CLUSTERS,), 1 / CLUSTERS),
        tolerance=0.0,
        max_iterations=1 + passes,
        memory_bytes=int(memory_gb * 1e9),
        on_pass=lambda: ends.append(time.perf_counter()),
    )
    return {
        "images": num_images,
        "seconds_per_pass": (ends[-1] - ends[1]) / passes,
        "seconds_of_first": ends[1] - ends[0],
        "marginal_error": found.error,
        "is_kept": float(num_images * CLUSTERS * 4 <= memory_gb * 1e9),
        "peak_gb": peak_bytes() / 1e9,
    }


if __name__ == "__main__":
    main()
