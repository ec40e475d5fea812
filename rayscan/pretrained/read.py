"""A network's weights from this machine, under the backbone's own names, with the facts a run records.

The driver calls this once and stores both in the run. Who computes features builds the net of them again
with `frozen_net`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from rayscan.catalog import TIMM, Pretrained
from rayscan.config.preprocessing import Preprocessing
from rayscan.errors import ConfigError
from rayscan.nets.backbone import Backbone
from rayscan.nets.catalog import build_backbone
from rayscan.nets.checkpoint_file import read_checkpoint, read_checkpoint_at
from rayscan.nets.fitting import fit
from rayscan.nets.preprocessing import preprocessing, preprocessing_of
from rayscan.nets.resnet import Stem
from rayscan.nets.timm_backbone import TimmBackbone, pooling_of
from rayscan.pretrained.cache import find_weights
from rayscan.pretrained.describe import UNKNOWN, described


def read_pretrained(
    entry: Pretrained, size_px: int | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights of a network of the catalog or of timm, from this machine alone.

    Args:
        entry: What `catalog.pretrained` gave.
        size_px: Side of the pictures (S); none is the catalog's, and timm's where that has none.

    Returns:
        Weights under the names of the backbone's state dict, in the precision of the file; and what to
        record: name, model, backbone, stem, dim, preprocessing, pooling, licence, trained_with, source,
        revision, sha256, layout, left_out.

    Raises:
        ConfigError: the weights are not on this machine, or the model cannot be of that size.
        ArtifactError: the file is damaged, or holds other weights.
    """
    known = described(entry)
    weights = find_weights(known)
    sha256 = weights.sha256
    pictures = preprocessing(known, size_px)
    tensors, facts = _fitted(
        read_checkpoint_at(weights.path),
        weights.source,
        f"{TIMM}{known.model}",
        "imagenet",
        pictures,
        known.pooling,
    )
    return tensors, {
        "name": known.name,
        "model": known.model,
        **facts,
        "licence": weights.licence,
        "trained_with": known.trained_with or UNKNOWN,
        "source": weights.source,
        "revision": weights.revision,
        "sha256": sha256,
    }


def read_own(
    data: bytes,
    where: str,
    backbone: str,
    *,
    stem: Stem = "imagenet",
    pictures: Preprocessing | None = None,
    size_px: int | None = None,
    pooling: str = "",
    licence: str | None = None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights of a checkpoint of the user's, and facts of the same names as `read_pretrained` gives.

    Args:
        data: The whole file.
        where: Its address.
        backbone: `timm/NAME`, or one of rayscan's ResNets.
        stem: First layers of a ResNet.
        pictures: How pictures are made; none is timm's configuration, and for a ResNet what ImageNet's
            authors do.
        size_px: Side of the pictures (S), if `pictures` are not given.
        pooling: `token` or `avg` instead of what timm does.
        licence: As the user knows it.

    Raises:
        ConfigError: there is no such backbone, or it cannot be of that size.
        ArtifactError: the file is damaged, or does not fit the backbone.
    """
    if pictures is None and backbone.startswith(TIMM):
        pictures = preprocessing_of(backbone.removeprefix(TIMM), size_px)
    elif pictures is None:
        pictures = Preprocessing() if size_px is None else Preprocessing(size_px=size_px)
    tensors, facts = _fitted(read_checkpoint(data, where), where, backbone, stem, pictures, pooling)
    return tensors, {
        "name": f"checkpoint:{where}",
        "model": backbone.removeprefix(TIMM),
        **facts,
        "licence": licence or "not given",
        "trained_with": UNKNOWN,
        "source": where,
        "revision": None,
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _fitted(
    tree: Mapping[str, Any], where: str, backbone: str, stem: Stem, pictures: Preprocessing, pooling: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights under the backbone's names, and what is known of the network by its build."""
    with torch.device("meta"):  # names and shapes are enough
        net = build_backbone(backbone, stem, is_sync=False, size_px=pictures.size_px, pooling=pooling).eval()
        _require_features(net, pictures.size_px, backbone)
    fitted = fit(net, tree, where)
    facts = {
        "backbone": backbone,
        "stem": stem,
        "dim": net.dim,
        "preprocessing": asdict(pictures),
        "pooling": pooling_of(net.model) if isinstance(net, TimmBackbone) else "avg",
        "layout": fitted.layout,
        "left_out": fitted.dropped,
    }
    return fitted.tensors, facts


def _require_features(net: Backbone, size_px: int, name: str) -> None:
    """Refuse a network that makes no [B, D] of such pictures; called on the meta device, it costs little."""
    expected = f"[1, {net.dim}] of a picture of {size_px} px"
    try:
        with torch.no_grad():
            shape = net(torch.empty(1, 3, size_px, size_px)).shape
    except (AssertionError, RuntimeError) as error:
        raise ConfigError(
            "the network cannot take pictures of this size", expected=expected, got=error, where=name
        ) from error
    if tuple(shape) != (1, net.dim):
        raise ConfigError(
            "the network gives no single feature of a picture",
            expected=expected,
            got=list(shape),
            where=name,
            fix="take a network that pools its tokens or places",
        )


def frozen_net(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[Backbone, Preprocessing]:
    """The network of `read_pretrained` or `read_own` in eval mode, and how its pictures are made.

    Args:
        facts: As recorded.
        tensors: Its weights; those in half precision become single.
    """
    pictures = Preprocessing(**{k: _frozen(v) for k, v in facts["preprocessing"].items()})
    net = build_backbone(
        facts["backbone"],
        facts["stem"],
        is_sync=False,
        size_px=pictures.size_px,
        pooling=facts["pooling"] if facts["pooling"] in ("token", "avg") else "",
    )
    net.load_state_dict(tensors)
    return net.eval().requires_grad_(requires_grad=False), pictures


def _frozen(value: Any) -> Any:
    """A list of JSON as the tuple it was."""
    return tuple(value) if isinstance(value, list) else value
