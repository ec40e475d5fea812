"""ResNets without their classifier (arXiv 1512.03385): [B, 3, S, S] -> [B, D].

Module names are torchvision's, so its state dicts load as they are. Stems: `imagenet` 7x7 stride 2 and a
max-pool of 3; `cifar` 3x3 stride 1 without a pool; `stl` 3x3 stride 1 and a max-pool of 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from rayscan.nets.backbone import Backbone
from rayscan.nets.batchnorm import GlobalBatchNorm2d

Stem = Literal["cifar", "stl", "imagenet"]


@dataclass(frozen=True)
class Shape:
    """Blocks and widths of a ResNet."""

    blocks: tuple[int, int, int, int]
    width: int = 64
    is_bottleneck: bool = False

    @property
    def dim(self) -> int:
        """Feature width (D)."""
        return self.width * 8 * (4 if self.is_bottleneck else 1)


SHAPES = {
    "resnet10_w16": Shape((1, 1, 1, 1), width=16),
    "resnet10_w32": Shape((1, 1, 1, 1), width=32),
    "resnet10_w48": Shape((1, 1, 1, 1), width=48),
    "resnet10": Shape((1, 1, 1, 1)),
    "resnet18_w32": Shape((2, 2, 2, 2), width=32),
    "resnet18": Shape((2, 2, 2, 2)),
    "resnet34": Shape((3, 4, 6, 3)),
    "resnet50": Shape((3, 4, 6, 3), is_bottleneck=True),
}


class ResNet(Backbone):
    """The network up to its average pool."""

    def __init__(self, shape: Shape, stem: Stem) -> None:
        """Build with He initialisation (arXiv 1502.01852), and every residual branch a normal unit scale."""
        super().__init__()
        self.dim = shape.dim
        width = shape.width
        is_wide = stem == "imagenet"
        self.conv1 = nn.Conv2d(
            3, width, 7 if is_wide else 3, 2 if is_wide else 1, 3 if is_wide else 1, bias=False
        )
        self.bn1 = GlobalBatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        pools = {"imagenet": nn.MaxPool2d(3, 2, 1), "stl": nn.MaxPool2d(2, 2), "cifar": nn.Identity()}
        self.maxpool: nn.Module = pools[stem]
        channels = width
        for stage, count in enumerate(shape.blocks):
            out = width * 2**stage * (4 if shape.is_bottleneck else 1)
            strides = [1 if stage == 0 else 2] + [1] * (count - 1)
            layers = []
            for stride in strides:
                block = Bottleneck if shape.is_bottleneck else BasicBlock
                layers.append(block(channels, out, stride))
                channels = out
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, D]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            x = self.get_submodule(stage)(x)
        pooled: Tensor = self.avgpool(x).flatten(1)
        return pooled


def _shortcut(channels: int, out: int, stride: int) -> nn.Module | None:
    if stride == 1 and channels == out:
        return None
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), GlobalBatchNorm2d(out))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        """`channels` in, `out` out; the first convolution strides."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = GlobalBatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = GlobalBatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(channels, out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, h, w] -> [B, out, h / stride, w / stride]."""
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        summed: Tensor = self.relu(y + (x if self.downsample is None else self.downsample(x)))
        return summed


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions; the 3x3 strides, as torchvision and the pretext papers' checkpoints do."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        """`channels` in, `out` out, `out / 4` between."""
        super().__init__()
        inner = out // 4
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = GlobalBatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
        self.bn2 = GlobalBatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out, 1, bias=False)
        self.bn3 = GlobalBatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(channels, out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, h, w] -> [B, out, h / stride, w / stride]."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(y)))))
        summed: Tensor = self.relu(y + (x if self.downsample is None else self.downsample(x)))
        return summed
