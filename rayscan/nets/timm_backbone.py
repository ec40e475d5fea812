"""Any model of the timm library as a backbone, with `pip install 'rayscan[timm]'`.

Its weights come from `pretext.checkpoint`, in timm's own key names, or are trained here: nothing is
downloaded.
"""

from __future__ import annotations

import importlib
from typing import Any

from torch import Tensor, nn

from rayscan.errors import ConfigError
from rayscan.nets.backbone import Backbone
from rayscan.nets.batchnorm import GlobalBatchNorm2d

WHERE = "pretext.backbone"


class TimmBackbone(Backbone):
    """A timm model without its classifier, under its own key names: [B, 3, S, S] -> [B, D]."""

    def __init__(self, model: nn.Module) -> None:
        """Wrap a model made with `num_classes=0`."""
        super().__init__()
        self.model = model
        self.dim = int(model.num_features)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, D]."""
        features: Tensor = self.model(x)
        return features


def build_timm(name: str, *, is_sync: bool) -> TimmBackbone:
    """A freshly initialised timm model.

    Args:
        name: As timm knows it.
        is_sync: Normalise over the global batch.

    Raises:
        ConfigError: timm is not installed, does not know the name, or the model normalises in a way that
            cannot be made global.
    """
    timm = _library()
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.partition('.')[0][:12]}*")[:6])
        raise ConfigError(
            "timm has no such model", expected=near or "a name of timm.list_models()", got=name, where=WHERE
        )
    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    if is_sync:
        _globalize(model, name)
    return TimmBackbone(model)


def _library() -> Any:
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise ConfigError(
            "backbones timm/NAME need the timm library, which is not installed",
            expected="timm",
            got=error,
            where=WHERE,
            fix="pip install 'rayscan[timm]', or take resnet18 or resnet50",
        ) from error


def _globalize(model: nn.Module, name: str) -> None:
    """Synchronise torch's batch normalisation in place; others would depend on the worker count."""
    for key, module in model.named_modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = GlobalBatchNorm2d
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise ConfigError(
                "this model has a batch normalisation that cannot be made global",
                expected="torch.nn.BatchNorm2d, or another kind of normalisation",
                got=f"{type(module).__name__} at {key} of {name}",
                where=WHERE,
                fix="pass --pretext.no-sync-batchnorm: then the worker count changes the result",
            )
