"""A checkpoint and a backbone -> the weights under the backbone's own names, all of them or an error.

Which layout the file is in is found by its key names (`layouts`, `transformer_layouts`,
`efficientnet_layout`). Position embeddings of another grid are resampled as timm itself does when it loads
weights: bicubic, antialiased (`timm.layers.resample_abs_pos_embed`).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from rayscan.errors import ArtifactError
from rayscan.nets.backbone import Backbone
from rayscan.nets.efficientnet_layout import efficientnet
from rayscan.nets.layouts import (
    HEADS,
    PREFIXES,
    Adapted,
    adapt,
    complete,
    projection_in,
    require_weights,
    weights_in,
)
from rayscan.nets.timm_backbone import TimmBackbone
from rayscan.nets.transformer_layouts import transformer

FIX = "set --pretext.backbone and --pretext.stem to the network the checkpoint was trained with"
TRUNKS = ("", "model.", "backbone.model.", "visual.trunk.", *PREFIXES)
"""What may stand before timm's own names."""
MAX_NAMED = 6


def fit(net: Backbone, tree: Mapping[str, Any], where: str) -> Adapted:
    """The weights of a backbone, found in a checkpoint.

    Args:
        net: The backbone; it may lie on the meta device, as only names and shapes are compared.
        tree: What `checkpoint_file.read_checkpoint` gave.
        where: Its address, for messages.

    Returns:
        Weights under the names of `net.state_dict()`, the layout, and the names of what was left out.

    Raises:
        ArtifactError: there are no weights in it, or they are not those of this backbone; missing and
            unexpected names and other shapes are said.
    """
    wanted = net.state_dict()
    if isinstance(net, TimmBackbone):
        adapted = _for_timm(net.model, tree, where)
        adapted = replace(adapted, tensors={f"model.{k}": v for k, v in adapted.tensors.items()})
    else:
        adapted = adapt(tree, where)
    tensors = complete(adapted.tensors, wanted)
    _require_fit(tensors, wanted, f"{where} (layout {adapted.layout})")
    return replace(adapted, tensors={k: v.contiguous() for k, v in tensors.items()})


def _for_timm(model: nn.Module, tree: Mapping[str, Any], where: str) -> Adapted:
    """Weights under timm's names, at the model's size, without classifier and heads."""
    state, _ = weights_in(tree)
    require_weights(state, tree, where)
    wanted = model.state_dict()
    layout, named, left_out = _named(state, tree, model, where)
    if any(k not in named or named[k].shape != v.shape for k, v in wanted.items()):
        named = _loaded_by_timm(named, model, where)
    heads = _classifiers(model) | HEADS
    surplus = {k for k in named if k not in wanted and any(f"{k}.".startswith(f"{h}.") for h in heads)}
    kept = {k: v for k, v in named.items() if k not in surplus}
    dropped = sorted({k.partition(".")[0] for k in surplus} | set(left_out))
    return Adapted(layout, kept, projection_in(named) or projection_in(state), dropped)


def _named(
    state: Mapping[str, Tensor], tree: Mapping[str, Any], model: nn.Module, where: str
) -> tuple[str, dict[str, Tensor], list[str]]:
    """Layout, weights under timm's names, and first parts of the names of what lies beside them."""
    wanted = model.state_dict()
    found = transformer(state, folds_class=bool(getattr(model, "no_embed_class", False)))
    if found is not None:
        return found
    if (efficient := efficientnet(state, wanted)) is not None:
        return "efficientnet", efficient, []
    trunk = max(TRUNKS, key=lambda p: sum(p + k in state for k in wanted))
    if any(trunk + k in state for k in wanted):
        inside = {k.removeprefix(trunk): v for k, v in state.items() if k.startswith(trunk)}
        beside = {k.partition(".")[0] for k in state if not k.startswith(trunk)}
        if trunk == "backbone.model.":
            return "rayscan", inside, sorted(beside)
        return f"timm{f' in {trunk[:-1]}' if trunk else ''}", inside, sorted(beside)
    adapted = adapt(tree, where)
    return adapted.layout, adapted.tensors, adapted.dropped


def _loaded_by_timm(named: dict[str, Tensor], model: nn.Module, where: str) -> dict[str, Tensor]:
    """What timm makes of weights before it loads them: position embeddings and the like at its size."""
    loader = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if loader is None:
        return named
    try:
        found: dict[str, Tensor] = loader(dict(named), model)
    except (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ArtifactError(
            "timm cannot bring these weights to the size of the model",
            expected=f"weights of {type(model).__name__}",
            got=f"{type(error).__name__}: {error}",
            where=where,
            fix=FIX,
        ) from error
    return found


def _classifiers(model: nn.Module) -> set[str]:
    """Names of layers that a file may have and this model not: the classifier, and a pooling of its own."""
    config = getattr(model, "pretrained_cfg", None) or {}
    names = config.get("classifier") or ()
    return {"attn_pool", *((names,) if isinstance(names, str) else names)}


def _require_fit(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], where: str) -> None:
    missing = sorted(wanted.keys() - tensors.keys())
    surplus = sorted(tensors.keys() - wanted.keys())
    shapes = [
        f"{k} {tuple(tensors[k].shape)} for {tuple(v.shape)}"
        for k, v in wanted.items()
        if k in tensors and tensors[k].shape != v.shape
    ]
    if missing or surplus or shapes:
        raise ArtifactError(
            "the checkpoint does not fit the backbone",
            expected=f"{len(wanted)} tensors; missing {_some(missing)}",
            got=f"{len(tensors)} tensors; unexpected {_some(surplus)}; other shape {_some(shapes)}",
            where=where,
            fix=FIX,
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return (", ".join(names[:MAX_NAMED]) or "none") + more
