"""Features of photos on a CPU: the network alone, and JPEG bytes to rows, against others in the same run.

    python -m benchmarks.embedding --json F [--quick]

    ratio_vs_openvino_*   our network alone over OpenVINO's, batch 64, bf16 where the CPU has it, same threads
    ratio_vs_plain_*      JPEG files to features: ours over timm in eager fp32, torchvision, DataLoader
    pipeline_efficiency*  photos to features over the network alone
    decode_ratio_12mp     12-megapixel JPEGs to 224 px, one thread: ours over Pillow without draft
    cosine_*, purity_*    features of the engine against plain fp32

Ratios are of images a second: above 1 is faster than the rival. lite0 has its trained weights, ViT-S/14 has
random ones.
"""

from __future__ import annotations

import os

from benchmarks.harness import CORES, Report, Times, interleaved, options, ratio

os.environ.setdefault("OMP_NUM_THREADS", str(CORES))

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.embedding_parts import agreement, photos, rivals
from benchmarks.embedding_parts.networks import NETWORKS, lite0
from rayscan.config import ImagesConfig
from rayscan.config.preprocessing import Preprocessing
from rayscan.data.central_crop import central_crop, short_side
from rayscan.data.decode import decode
from rayscan.data.pictures import PictureLoader
from rayscan.engine.inference.fast import fast_net
from rayscan.engine.inference.features import features
from rayscan.processor import has_bf16_units

IMAGES = {"lite0": (128, 1024), "vits": (64, 192)}
"""Images a round: quick, full."""
LABELLED = (600, 2700)
LARGE = (4, 12)
GOALS = {"lite0": (0.9, 6.0), "vits": (1.2, 3.0)}
"""Least ratio against OpenVINO, and against plain timm."""


def main() -> None:
    """Measure and report."""
    asked = options(__doc__)
    report = Report(asked, "embedding")
    report.ceilings()
    report.detail("threads", torch.get_num_threads())
    report.detail("has_bf16_units", has_bf16_units())
    times: dict[str, Times] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in NETWORKS:
            (Path(folder) / name).mkdir()
            times |= _network(report, name, Path(folder) / name)
    times |= _large(report)
    _agreement(report)
    report.finish(times)


def _network(report: Report, name: str, folder: Path) -> dict[str, Times]:
    """One network alone and with its photos, every contender in every round."""
    net, wanted = NETWORKS[name]()
    count = IMAGES[name][not report.asked.quick]
    table, gids, paths, which = photos.indexed(folder, count)
    report.detail(f"photos_{name}", f"{count} a round of {which}")
    threads = torch.get_num_threads()
    loader = PictureLoader(table, ImagesConfig(decode_threads=threads), wanted)
    pixels = loader.pictures(gids)
    ours, seconds = _timed(partial(fast_net, NETWORKS[name]()[0], wanted, num_rows=1_000_000))
    report.detail(f"engine_{name}", {**ours.facts, "prepare_s": seconds})
    contenders: dict[str, Callable[[], Any]] = {
        f"net_{name}": partial(ours, pixels),
        f"whole_{name}": partial(features, ours, loader.pictures, gids),
        f"plain_{name}": rivals.plain(net, paths, wanted, workers=threads),
        **_other_engines(report, name, wanted, pixels),
    }
    has_openvino = _add_openvino(contenders, name, net, wanted, pixels)
    times = interleaved(contenders, rounds=report.asked.rounds)
    least_openvino, least_plain = GOALS[name]
    alone = times[f"net_{name}"]
    beside = ratio(times[f"openvino_{name}"], alone, "wall") if has_openvino else None
    report.value(f"ratio_vs_openvino_{name}", beside, goal=(">=", least_openvino))
    whole = times[f"whole_{name}"]
    report.value(
        f"ratio_vs_plain_{name}", ratio(times[f"plain_{name}"], whole, "wall"), goal=(">=", least_plain)
    )
    key = "pipeline_efficiency" if name == "lite0" else f"pipeline_efficiency_{name}"
    report.value(key, ratio(alone, whole, "wall"), goal=(">=", 0.85))
    speeds = {key: count / float(np.median(taken.wall)) for key, taken in times.items()}
    report.detail(f"images_per_second_{name}", speeds)
    return times


def _other_engines(
    report: Report, name: str, wanted: Preprocessing, pixels: torch.Tensor
) -> dict[str, Callable[[], Any]]:
    """Torch's engines alone, to see what OpenVINO and compiling are worth."""
    contenders = {}
    for engine in ("eager",) if report.asked.quick else ("eager", "compiled"):  # compiling takes a minute
        net, seconds = _timed(
            partial(fast_net, NETWORKS[name]()[0], wanted, num_rows=1_000_000, engine=engine)
        )
        report.detail(f"engine_{name}_{engine}", {**net.facts, "prepare_s": seconds, "note": net.note})
        contenders[f"{engine}_{name}"] = partial(net, pixels)
    return contenders


def _add_openvino(
    contenders: dict[str, Callable[[], Any]],
    name: str,
    net: nn.Module,
    wanted: Preprocessing,
    pixels: torch.Tensor,
) -> bool:
    """OpenVINO by itself, on pixels that are normalised already; False if it is not installed."""
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (wanted.mean, wanted.std))
    normalised = ((pixels / 255 - mean) / std).contiguous().numpy()
    precision = "bf16" if has_bf16_units() else "f32"
    try:
        rival = rivals.openvino_net(net, wanted.size_px, precision, torch.get_num_threads())
    except ImportError:
        return False
    contenders[f"openvino_{name}"] = partial(rival, normalised)
    return True


def _timed(make: Callable[[], Any]) -> tuple[Any, float]:
    begin = time.perf_counter()
    return make(), time.perf_counter() - begin


def _large(report: Report) -> dict[str, Times]:
    """Large photos to the pixels of the network, one thread."""
    wanted = Preprocessing()
    files = photos.large(LARGE[not report.asked.quick])
    report.detail("bytes_12mp", [len(data) for data in files])

    def ours() -> list[np.ndarray]:
        least = short_side(wanted)
        small = [decode(data, max_pixels=100_000_000, min_px=least) for data in files]
        return [central_crop(picture, *photos.MEGAPIXELS_12, wanted) for picture in small]

    def pillow() -> list[np.ndarray]:
        return [rivals.pillow_whole(data, wanted) for data in files]

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = interleaved({"ours_12mp": ours, "pillow_12mp": pillow}, rounds=report.asked.rounds)
    torch.set_num_threads(threads)
    report.value("decode_ratio_12mp", ratio(times["pillow_12mp"], times["ours_12mp"]), goal=(">=", 3))
    levels = [
        float(np.abs(a.astype(int) - b).mean())
        for a, b in zip(times["ours_12mp"].result, times["pillow_12mp"].result, strict=True)
    ]
    report.detail("mean_grey_levels_12mp", max(levels))
    return times


def _agreement(report: Report) -> None:
    """Features of lite0 by the chosen engine and by plain fp32 torch, of the same photos and classes."""
    for name in ("grocery", "blood_pbc"):
        found = photos.labelled(name, LABELLED[not report.asked.quick])
        cosine = moved = None
        if found is not None:
            table, gids, classes = found
            net, wanted = lite0()
            pixels = PictureLoader(table, ImagesConfig(), wanted).pictures(gids)
            exact = fast_net(net, wanted, num_rows=0, engine="eager", precision="fp32")(pixels)
            ours = fast_net(lite0()[0], wanted, num_rows=1_000_000)(pixels)
            cosine = agreement.cosine(ours, exact)
            both = [agreement.purity(rows, classes) for rows in (exact, ours)]
            moved = abs(both[1] - both[0])
            report.detail(f"purity20_{name}", {"fp32": both[0], "engine": both[1], "images": len(gids)})
        report.value(f"cosine_lite0_{name}", cosine, goal=(">=", 0.999))
        report.value(f"purity20_moved_{name}", moved, goal=("<=", 0.2))


if __name__ == "__main__":
    main()
