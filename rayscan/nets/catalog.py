"""Backbones by the name that `pretext.backbone` gives them."""

from __future__ import annotations

from torch import nn

from rayscan.catalog import TIMM
from rayscan.errors import ConfigError
from rayscan.nets.backbone import Backbone
from rayscan.nets.batchnorm import GlobalBatchNorm2d
from rayscan.nets.resnet import SHAPES, ResNet, Stem
from rayscan.nets.timm_backbone import build_timm, timm_config

__all__ = ["TIMM", "build_backbone", "require_any_side"]


def build_backbone(
    name: str, stem: Stem, *, is_sync: bool = True, size_px: int | None = None, pooling: str = ""
) -> Backbone:
    """The backbone of a recipe.

    Args:
        name: One of `SHAPES`, or `timm/NAME`.
        stem: First layers; a timm model brings its own.
        is_sync: Normalise over the global batch; without it every worker normalises its own slice.
        size_px: Side of the pictures (S), which some models of timm are built for; none is timm's.
        pooling: `token` or `avg` instead of what timm does.

    Raises:
        ConfigError: the name is unknown, or the model cannot be of that size or be pooled so.
    """
    if name.startswith(TIMM):
        return build_timm(name.removeprefix(TIMM), is_sync=is_sync, size_px=size_px, pooling=pooling)
    if name not in SHAPES or pooling not in ("", "avg"):
        raise ConfigError(
            "unknown backbone" if name not in SHAPES else "this backbone averages over places",
            expected=f"{', '.join(SHAPES)} or {TIMM}NAME",
            got=name if name not in SHAPES else f"{name} pooled by {pooling}",
            where="pretext.backbone",
        )
    net = ResNet(SHAPES[name], stem)
    return net if is_sync else _localize(net)


def require_any_side(name: str, setting: str) -> None:
    """Refuse a network that is built for pictures of one side.

    Args:
        name: As `build_backbone` takes it.
        setting: What makes pictures of several.

    Raises:
        ConfigError: it is one.
    """
    if name.startswith(TIMM) and timm_config(name.removeprefix(TIMM)).fixed_input_size:
        raise ConfigError(
            "this network is built for pictures of one side",
            expected=f"a network that takes any, such as {next(iter(SHAPES))} or {TIMM}resnet18",
            got=name,
            where=setting,
            fix=f"leave {setting} out, or take another pretext.backbone",
        )


def _localize(net: ResNet) -> ResNet:
    """Turn global normalisation back into torch's own, per worker."""
    for module in net.modules():
        if isinstance(module, GlobalBatchNorm2d):
            module.__class__ = nn.BatchNorm2d  # type: ignore[assignment]
    return net
