"""Backbones of the timm library: the error without it, and, where it is installed, a real model.

Where it is not installed, what we do around a model is tested on a small one of our own; that timm itself
has the calls we make is then not shown.
"""

from __future__ import annotations

import importlib.util
import types

import pytest
import torch
from torch import nn

from rayscan.errors import ConfigError
from rayscan.nets import timm_backbone
from rayscan.nets.batchnorm import GlobalBatchNorm2d
from rayscan.nets.catalog import build_backbone

HAS_TIMM = importlib.util.find_spec("timm") is not None


class Small(nn.Module):
    """A convolution, a normalisation, an average."""

    num_features = 5

    def __init__(self, norm: type[nn.Module]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.norm = norm(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x)).mean((2, 3))


class OwnNorm(nn.BatchNorm2d):
    """A normalisation with a forward of its own."""


def library(norm: type[nn.Module] = nn.BatchNorm2d) -> types.SimpleNamespace:
    return types.SimpleNamespace(
        is_model=lambda name: name == "small",
        list_models=lambda pattern: ["small"] if pattern == "*tin*" else [],
        create_model=lambda name, *, pretrained, num_classes: Small(norm),
    )


@pytest.mark.skipif(HAS_TIMM, reason="timm is installed")
def test_without_the_library_the_error_says_what_to_install() -> None:
    with pytest.raises(ConfigError, match=r"rayscan\[timm\]"):
        build_backbone("timm/resnet18", "imagenet")


@pytest.mark.skipif(not HAS_TIMM, reason="timm is not installed")
def test_a_model_of_the_real_library() -> None:
    import timm

    torch.manual_seed(0)
    theirs = timm.create_model("resnet18", num_classes=0).eval()
    ours = build_backbone("timm/resnet18", "imagenet").eval()
    ours.load_state_dict({f"model.{k}": v for k, v in theirs.state_dict().items()})
    x = torch.randn(2, 3, 64, 64)
    assert ours.dim == 512
    torch.testing.assert_close(ours(x), theirs(x))


def test_a_model_is_wrapped_and_its_normalisation_made_global(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm_backbone, "_library", library)
    net = build_backbone("timm/small", "cifar")
    assert net.dim == 5
    assert net(torch.zeros(2, 3, 8, 8)).shape == (2, 5)
    assert isinstance(net.get_submodule("model.norm"), GlobalBatchNorm2d)
    local = build_backbone("timm/small", "cifar", is_sync=False)
    assert type(local.get_submodule("model.norm")) is nn.BatchNorm2d


def test_an_unknown_name_suggests_near_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm_backbone, "_library", library)
    with pytest.raises(ConfigError, match="small"):
        build_backbone("timm/tin.small", "cifar")


def test_a_normalisation_that_cannot_be_global_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm_backbone, "_library", lambda: library(OwnNorm))
    with pytest.raises(ConfigError, match=r"OwnNorm at norm"):
        build_backbone("timm/small", "cifar")
    build_backbone("timm/small", "cifar", is_sync=False)
