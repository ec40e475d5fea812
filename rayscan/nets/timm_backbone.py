"""Any model of the timm library as a backbone.

Its weights come from a file (`rayscan.nets.fitting`), or are trained here: timm itself downloads nothing,
as no model is made with `pretrained=True`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from rayscan.errors import ConfigError
from rayscan.nets.backbone import Backbone

WHERE = "pretext.backbone"


class TimmBackbone(Backbone):
    """A timm model without its classifier, under its own key names: [B, 3, S, S] -> [B, D]."""

    def __init__(self, model: nn.Module) -> None:
        """Wrap a model made with `num_classes=0`."""
        super().__init__()
        self.model = model
        # where a layer follows the pooling, its width is not that of the feature maps
        self.dim = int(getattr(model, "head_hidden_size", None) or model.num_features)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, D]."""
        features: Tensor = self.model(x)
        return features


def build_timm(name: str, *, is_sync: bool, size_px: int | None = None, pooling: str = "") -> TimmBackbone:
    """A freshly initialised timm model.

    Args:
        name: As timm knows it.
        is_sync: Normalise over the global batch; a frozen net does without and is never refused for it.
        size_px: Side of the pictures (S), for models that are built for one size; others take any.
        pooling: `token` for the class token, `avg` for the mean of the patches; empty is timm's default.

    Raises:
        ConfigError: timm does not know the name, the model cannot be of that size or be pooled so, or it
            normalises in a way that cannot be made global.
    """
    import timm

    is_of_one_size = timm_config(name).fixed_input_size
    sized = {"img_size": size_px} if size_px is not None and is_of_one_size else {}
    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **sized)
    if sized:
        _require_whole_patches(model, name, size_px)
    if pooling:
        _pool(model, name, pooling)
    if is_sync:
        _globalize(model, name)
    return TimmBackbone(model)


def timm_config(name: str) -> Any:
    """What timm knows of a model and its weights (`timm.models.PretrainedCfg`); its defaults if nothing.

    Raises:
        ConfigError: timm has no such model, or no such weights of it.
    """
    import timm
    from timm.models import PretrainedCfg

    problem = "timm has no such model"
    if timm.is_model(name):
        try:
            return timm.get_pretrained_cfg(name) or PretrainedCfg()
        except RuntimeError:  # the tag after the point
            problem = "timm has no such weights of this model"
    architecture = name.partition(".")[0]
    near = timm.list_pretrained(f"{architecture}.*") or timm.list_models(f"*{architecture[:12]}*")
    expected = ", ".join(near[:6]) or "a name of timm.list_models()"
    raise ConfigError(problem, expected=expected, got=name, where=WHERE)


def pooling_of(model: nn.Module) -> str:
    """How a timm model makes one feature of its tokens or places: token, avg, map ..."""
    own = getattr(model, "global_pool", None)
    if isinstance(own, str):
        return own or "none"
    inner = own or getattr(getattr(model, "head", None), "global_pool", None)
    return str(getattr(inner, "pool_type", "") or "avg")


def _require_whole_patches(model: nn.Module, name: str, size_px: int | None) -> None:
    """Refuse a side that patches do not fill: the last pixels would be cut off unsaid."""
    patches = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    side = patches[0] if isinstance(patches, tuple) else patches
    if isinstance(side, int) and size_px is not None and size_px % side:
        below = max(size_px // side, 1) * side
        raise ConfigError(
            "the pictures are not made of whole patches",
            expected=f"a multiple of {side} px, such as {below} or {below + side}",
            got=f"{size_px} px",
            where=f"{WHERE} timm/{name}",
        )


def _pool(model: nn.Module, name: str, pooling: str) -> None:
    """Pool otherwise, after the same normalisation: names and shapes of the weights stay as they are."""
    own = pooling_of(model)
    if own == pooling:
        return
    has_token = getattr(model, "cls_token", None) is not None
    is_plain = isinstance(getattr(model, "global_pool", None), str)
    has_pooling_layer = getattr(model, "attn_pool", None) is not None
    choices = () if not is_plain or has_pooling_layer else ("token", "avg") if has_token else ("avg",)
    if pooling not in choices:
        raise ConfigError(
            "this model cannot be pooled so",
            expected=" or ".join(dict.fromkeys((own, *choices))),
            got=pooling,
            where=f"{WHERE} timm/{name}",
        )
    model.global_pool = pooling  # type: ignore[assignment]


def _globalize(model: nn.Module, name: str) -> None:
    """Synchronise torch's and timm's batch normalisation in place; others hang on the worker count."""
    from rayscan.nets.timm_batchnorm import SYNCHRONISED

    for key, module in model.named_modules():
        if (synchronised := SYNCHRONISED.get(type(module))) is not None:
            module.__class__ = synchronised
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise ConfigError(
                "this model has a batch normalisation that cannot be made global",
                expected=f"{' or '.join(k.__name__ for k in SYNCHRONISED)}, or another kind of normalisation",
                got=f"{type(module).__name__} at {key} of {name}",
                where=WHERE,
                fix="pass --pretext.no-sync-batchnorm: then the worker count changes the result",
            )
