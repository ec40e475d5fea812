"""SimCLR on a ResNet-18 at 32 px: our engine against the plain way, on this machine, same batch and cores.

    python -m benchmarks.pretext [--quick] [--json FILE] [--rounds N]

Plain is how the published codes train: eager fp32, torchvision's ResNet-18 with a 3x3 stem, NT-Xent with a
boolean mask, SGD, and a DataLoader whose workers (one per core, kept alive) run torchvision's PIL transforms.
Ours is what `rayscan run cifar10` does on one worker. Pictures are made up; JPEG of 32 px, as in shards.

    ratio_step_vs_plain        seconds of a plain step over ours, batches ready in memory; goal >= 2.5
    ratio_end_to_end_vs_plain  the same with the data: from pictures to updated weights; goal >= 2.5
    fraction_of_gemm_peak      FLOP/s of our step over those of a large matrix product, same precision: >= 0.8

The goals are for a processor with bf16 units (`bf16_units` says whether it has them); without them both sides
compute in fp32. Sizes: batch 128, 4 steps a round, product of 4096; quick: 64, 2, 2048.
"""

from __future__ import annotations

import io
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

from benchmarks.harness import CORES, Report, interleaved, options, ratio, spread
from rayscan.data.loader import ViewLoader
from rayscan.data.order import Order
from rayscan.data.table import ImageTable
from rayscan.engine.checkpoint import Checkpoints
from rayscan.engine.feed import OrderedFeed
from rayscan.engine.loop import LoopSettings, Training
from rayscan.objectives.base import Batch
from rayscan.objectives.pretexts import build_objective, build_projected_net
from rayscan.processor import has_bf16_units
from rayscan.recipes import by_name
from rayscan.storage import Place

SIDE = 32
TEMPERATURE = 0.1


@dataclass(frozen=True)
class Sizes:
    """What is measured."""

    batch: int
    steps: int
    product: int


def main() -> None:
    """Measure and report."""
    asked = options(__doc__)
    sizes = Sizes(64, 2, 2048) if asked.quick else Sizes(128, 4, 4096)
    torch.set_num_threads(CORES)  # OMP_NUM_THREADS may say 1, for Ray's sake
    report = Report(asked, "pretext")
    report.ceilings()
    report.detail("bf16_units", has_bf16_units())
    report.detail("sizes", vars(sizes))
    report.detail("threads", CORES)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_pictures(Path(folder) / "pictures", sizes.batch * sizes.steps)
        ours, plain = Ours(paths, Path(folder), sizes.batch), Plain(paths, sizes, CORES)
        times = interleaved(
            {
                "ours step": ours.step,
                "plain step": plain.step,
                "ours end to end": ours.epoch,
                "plain end to end": plain.epoch,
                "product": product(sizes.product, ours.is_half),
            },
            rounds=asked.rounds,
        )
        flops = ours.flops()
        plain.close()
    report.value(
        "ratio_step_vs_plain", ratio(times["plain step"], times["ours step"], "wall"), goal=(">=", 2.5)
    )
    end_to_end = ratio(times["plain end to end"], times["ours end to end"], "wall")
    report.value("ratio_end_to_end_vs_plain", end_to_end, goal=(">=", 2.5))
    step_rates = [flops / seconds for seconds in times["ours step"].wall]
    peaks = [2 * sizes.product**3 / seconds for seconds in times["product"].wall]
    fractions = [rate / peak for rate, peak in zip(step_rates, peaks, strict=True)]
    report.value("fraction_of_gemm_peak", spread(fractions), goal=(">=", 0.8))
    report.detail("gflops_of_step", spread([rate / 1e9 for rate in step_rates]))
    report.detail("gflops_of_product", spread([peak / 1e9 for peak in peaks]))
    report.detail(
        "images_per_second", sizes.batch * sizes.steps / float(np.median(times["ours end to end"].wall))
    )
    report.detail("losses", {name: times[name].result for name in ("ours end to end", "plain end to end")})
    report.finish(times)


def write_pictures(folder: Path, number: int) -> list[Path]:
    """Smooth random pictures as JPEG files."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    paths = []
    for i in range(number):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        paths.append(folder / f"{i:05d}.jpg")
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(paths[-1], quality=92)
    return paths


def table_of(paths: list[Path]) -> ImageTable:
    """The index of pictures that are files of their own."""
    data = [path.read_bytes() for path in paths]
    n = len(paths)
    side = np.full(n, SIDE, np.int32)
    return ImageTable(
        shard=np.arange(n, dtype=np.int32),
        offset=np.zeros(n, np.int64),
        length=np.array([len(d) for d in data]),
        crc32=np.array([zlib.crc32(d) for d in data], np.uint32),
        width=side,
        height=side,
        is_ok=np.ones(n, bool),
        is_eval=np.zeros(n, bool),
        shard_uris=tuple(map(str, paths)),
    )


class Ours:
    """The engine as the pretext stage of `cifar10` sets it up."""

    def __init__(
        self, paths: list[Path], folder: Path, batch: int, device: str = "cpu", backbone: str = "resnet18"
    ) -> None:
        """Build net, objective, feed and training."""
        recipe = by_name("cifar10")
        settings = replace(recipe.pretext, backbone=backbone, batch_size=batch, epochs=1_000)
        torch.manual_seed(0)
        net = build_projected_net(settings).to(device)
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        objective = build_objective(settings, net, num_images=len(paths), total_steps=1)
        loader = ViewLoader(table_of(paths), recipe.images, seed=0, device=device)
        gids = np.arange(len(paths), dtype=np.int64)

        def make(epoch: int, mine: Any) -> dict[str, Tensor]:
            return {"views": loader.views(mine, settings.views, epoch)}

        self.feed = OrderedFeed(Order(gids, batch, seed=0), make, device=device)
        loop = LoopSettings(settings.epochs, settings.optimizer, log_every_steps=10**9, device=device)
        checkpoints = Checkpoints(Place(str(folder / "work")), "benchmark")
        self.training = Training(objective, self.feed, loop, checkpoints, lambda _: None)
        self.is_half = self.training.is_half
        self.epochs = count(1)
        self.ready: Batch = self.feed.batch(0, 0)

    def step(self) -> None:
        """One step on a batch in memory."""
        self.training._train_step(self.ready)

    def epoch(self) -> float:
        """All pictures once, with their data; the last loss."""
        epoch = next(self.epochs)
        self.feed.start(epoch, 0, epoch + 1)
        for step in range(self.feed.num_steps):
            terms = self.training._train_step(self.feed.batch(epoch, step))
        self.feed.close()
        return float(terms.total.detach())

    def flops(self) -> float:
        """Multiplications and additions of convolutions and matrix products in a step."""
        net = self.training.objective.module
        views = self.ready["views"].flatten(0, 1)
        with FlopCounterMode(display=False) as counter:
            type(net).forward(net, views).sum().backward()  # type: ignore[operator] # uncompiled, to be seen
        net.zero_grad(set_to_none=True)
        return float(counter.get_total_flops())


class Pictures(Dataset[tuple[Tensor, Tensor]]):
    """Decoded pictures in memory, as CIFAR is; two views of each by torchvision."""

    def __init__(self, paths: list[Path]) -> None:
        """Decode all."""
        self.pictures = [Image.open(io.BytesIO(path.read_bytes())).convert("RGB") for path in paths]
        images = by_name("cifar10").images
        jitter = transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(SIDE, scale=(0.2, 1.0)),
                transforms.RandomHorizontalFlip(),
                transforms.RandomApply([jitter], p=0.8),
                transforms.RandomGrayscale(p=0.2),
                transforms.ToTensor(),
                transforms.Normalize(images.mean, images.std),
            ]
        )

    def __len__(self) -> int:
        """Pictures."""
        return len(self.pictures)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        """Two views."""
        return self.transform(self.pictures[i]), self.transform(self.pictures[i])


class Plain:
    """Eager fp32 and a DataLoader."""

    def __init__(self, paths: list[Path], sizes: Sizes, cores: int) -> None:
        """Build net, optimizer and loader."""
        torch.manual_seed(0)
        body = torchvision.models.resnet18()
        body.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        body.maxpool = nn.Identity()
        body.fc = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 128))
        self.net = body.train()
        self.optimizer = torch.optim.SGD(body.parameters(), lr=0.4, momentum=0.9, weight_decay=1e-4)
        self.loader = DataLoader(
            Pictures(paths),
            batch_size=sizes.batch,
            shuffle=True,
            drop_last=True,
            num_workers=cores,
            persistent_workers=True,
        )
        rng = torch.Generator().manual_seed(0)
        self.ready = torch.randn(2, sizes.batch, 3, SIDE, SIDE, generator=rng)

    def step(self, views: Tensor | None = None) -> float:
        """One step."""
        views = self.ready if views is None else views
        z = functional.normalize(self.net(views.flatten(0, 1)), dim=1)
        size = len(z)
        others = ~torch.eye(size, dtype=torch.bool)
        similarity = z @ z.T / TEMPERATURE
        positive = torch.cat([similarity.diag(size // 2), similarity.diag(-(size // 2))])
        loss = (similarity[others].view(size, -1).logsumexp(1) - positive).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def epoch(self) -> float:
        """All pictures once, with their data; the last loss."""
        return list(self._losses())[-1]

    def _losses(self) -> Iterator[float]:
        for first, second in self.loader:
            yield self.step(torch.stack([first, second]))

    def close(self) -> None:
        """End the workers."""
        del self.loader


def product(size: int, is_half: bool) -> Any:
    """One large matrix product, in the precision of our step."""
    kind = torch.bfloat16 if is_half else torch.float32
    a, b = (torch.randn(size, size).to(kind) for _ in range(2))
    out = torch.empty(size, size, dtype=kind)
    return lambda: torch.mm(a, b, out=out)


if __name__ == "__main__":
    main()
