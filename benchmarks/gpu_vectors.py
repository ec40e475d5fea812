"""Exact neighbors on one GPU: this search beside torch, over the floor of the measured product.

    python -m benchmarks.gpu_vectors [--quick] --json FILE

Needs a CUDA device and a faiss built for it; without, every value is "not measured". It has not been run on
one yet: no number of it stands anywhere.

    both_load          faiss and torch allocate on the device in one process (their CUDA versions may differ)
    fraction_of_peak_* seconds of the bare float32 product of the same size, summed over the same tiles, over
                       those of the whole search (proposals on the device, exact scores on the host)
    ratio_vs_torch_*   torch: product, top-k and merge by tiles, over ours
    half_vs_product_*  the bare float32 product over neighbors by proposals in bfloat16 (`gpu_half`, exact as
                       well); `by_float_*` says how many queries its bound left to float32
    half_of_peak_*     the bare bfloat16 product over the same
Sizes: 200,000 x 128 and x 2,048 (--quick: 50,000), K = 20, all against all; recall on 200 rows in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import faiss
import numpy as np

from benchmarks.gpu_half import half_neighbors
from benchmarks.harness import Report, Times, interleaved, options, ratio
from benchmarks.mining.sets import Ids, Rows, clustered
from rayscan.vectors.merge import MARGIN, Proposal, nearest
from rayscan.vectors.shard_search import ShardSearch

K = 20
TILE = 8192
DIMS = (128, 2048)
RATIOS = ("fraction_of_peak", "ratio_vs_torch", "half_vs_product", "half_of_peak")


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure both widths and report."""
    asked = options(__doc__, arguments)
    report, times = Report(asked, "gpu_vectors"), dict[str, Times]()
    report.ceilings()
    import torch

    if not torch.cuda.is_available() or not faiss.get_num_gpus():
        gpus = f"torch sees {torch.cuda.device_count()} GPUs, faiss {faiss.get_num_gpus()}"
        report.detail("missing", gpus)
        for key in ("both_load", *(f"{name}_{dim}" for name in RATIOS for dim in DIMS)):
            report.value(key, None)
        return report.finish()
    for dim in DIMS:
        x = clustered(50_000 if asked.quick else 200_000, dim, seed=0)
        shards = GpuShards(x)
        contenders: dict[str, Callable[[], Any]] = {
            "ours": lambda x=x, s=shards: _ours(x, s),  # type: ignore[misc]
            "torch": lambda x=x: _torch(x),  # type: ignore[misc]
            "half": lambda x=x: half_neighbors(x, K + 1, "cuda"),  # type: ignore[misc]
            "product": lambda x=x: _product(x, torch.float32),  # type: ignore[misc]
            "half_product": lambda x=x: _product(x, torch.bfloat16),  # type: ignore[misc]
        }
        found = interleaved(contenders, rounds=asked.rounds)
        times |= {f"{name}_{dim}": t for name, t in found.items()}
        report.value(f"fraction_of_peak_{dim}", ratio(found["product"], found["ours"], "wall"))
        report.value(f"ratio_vs_torch_{dim}", ratio(found["torch"], found["ours"], "wall"))
        report.value(f"half_vs_product_{dim}", ratio(found["product"], found["half"], "wall"))
        report.value(f"half_of_peak_{dim}", ratio(found["half_product"], found["half"], "wall"))
        report.detail(f"by_float_{dim}", found["half"].result.by_float)
        report.detail(f"recall_{dim}", _recall(x, found["ours"].result))
        report.detail(f"recall_half_{dim}", _recall(x, found["half"].result.rows))
    report.value("both_load", 1.0, goal=(">=", 1))  # both held memory of the device at once, above
    return report.finish(times)


class GpuShards:
    """One shard on the first GPU, as the owner of a block sees it."""

    nprobe = None
    margin = MARGIN

    def __init__(self, rows: Rows) -> None:
        """Put the rows on the device."""
        self.shard = ShardSearch(rows, threads=1, use_gpu=True, where="benchmark")
        self.sizes = [len(rows)]

    def exhaustive(self) -> GpuShards:
        """Itself: it is exact."""
        return self

    def propose(self, queries: Rows, width: int) -> list[Proposal]:
        """See `merge.Shards`."""
        return [self.shard.search(queries, width)]

    def score(self, queries: Rows, pairs: Sequence[tuple[Ids, Ids]]) -> list[Rows]:
        """See `merge.Shards`."""
        return [self.shard.score(queries, *pairs[0])]


def _ours(x: Rows, shards: GpuShards) -> Ids:
    return np.concatenate([nearest(x[at : at + TILE], shards, K + 1)[1] for at in range(0, len(x), TILE)])


def _torch(x: Rows) -> Any:
    import torch

    rows, found = torch.from_numpy(x).cuda(), []
    for at in range(0, len(x), TILE):
        best_scores = best_ids = None
        for low in range(0, len(x), 16 * TILE):
            scores, ids = (rows[at : at + TILE] @ rows[low : low + 16 * TILE].T).topk(K + 1, dim=1)
            ids = ids + low
            if best_scores is not None:
                scores, ids = torch.cat([best_scores, scores], 1), torch.cat([best_ids, ids], 1)
                scores, chosen = scores.topk(K + 1, dim=1)
                ids = ids.gather(1, chosen)
            best_scores, best_ids = scores, ids
        found.append(best_ids)
    return torch.cat(found).cpu().numpy()


def _product(x: Rows, dtype: Any) -> None:
    import torch

    rows = torch.from_numpy(x).cuda().to(dtype)
    out = torch.empty(TILE, len(x), device="cuda", dtype=dtype)
    for at in range(0, len(x), TILE):
        some = rows[at : at + TILE]
        torch.matmul(some, rows.T, out=out[: len(some)])
    torch.cuda.synchronize()


def _recall(x: Rows, found: Ids) -> float:
    some = np.random.default_rng(1).choice(len(x), 200, replace=False)
    exact = x[some].astype(np.float64) @ x.astype(np.float64).T
    kth = np.partition(exact, -(K + 1), axis=1)[:, -(K + 1)]
    return float((np.take_along_axis(exact, found[some], axis=1) >= kth[:, None] - 1e-6).mean())


if __name__ == "__main__":
    main()
