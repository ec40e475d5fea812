"""The networks: lite0 with the weights of its package; ViT-S/14 with random ones, as speed is the same."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from rayscan.catalog import LITE0
from rayscan.config.preprocessing import Preprocessing
from rayscan.nets.preprocessing import preprocessing_of
from rayscan.nets.timm_backbone import build_timm
from rayscan.pretrained.read import read_pretrained
from testing.frozen_net import frozen_net

VIT_SMALL = "vit_small_patch14_reg4_dinov2.lvd142m"


def lite0() -> tuple[nn.Module, Preprocessing]:
    """EfficientNet-Lite0 as `--features lite0` takes it."""
    tensors, facts = read_pretrained(LITE0)
    return frozen_net(facts, tensors)


def vits() -> tuple[nn.Module, Preprocessing]:
    """DINOv2's ViT-S/14 with registers at 224 px."""
    torch.manual_seed(0)
    return build_timm(VIT_SMALL, is_sync=False, size_px=224).eval(), preprocessing_of(VIT_SMALL, 224)


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Preprocessing]]] = {"lite0": lite0, "vits": vits}
