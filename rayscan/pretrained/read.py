"""A network's weights from this machine, under the backbone's own names, with the facts a run records.

The driver calls this once and stores both in the run; who computes features builds the net of them again.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from rayscan.catalog import TIMM, Pretrained
from rayscan.nets.catalog import build_backbone
from rayscan.nets.checkpoint_file import read_checkpoint_at
from rayscan.nets.fitting import fit
from rayscan.nets.preprocessing import preprocessing
from rayscan.nets.resnet import Stem
from rayscan.nets.single_feature import require_single_feature
from rayscan.nets.timm_backbone import TimmBackbone, pooling_of
from rayscan.pretrained.cache import find_weights
from rayscan.pretrained.describe import UNKNOWN, described

STEM: Stem = "imagenet"
"""Of networks of timm, which know no other."""


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
    sha256 = weights.sha256  # first: a file that is damaged must not be called another network's
    pictures = preprocessing(known, size_px)
    backbone = f"{TIMM}{known.model}"
    with torch.device("meta"):  # names and shapes are enough
        net = build_backbone(
            backbone, STEM, is_sync=False, size_px=pictures.size_px, pooling=known.pooling
        ).eval()
        require_single_feature(net, pictures.size_px, backbone)
    fitted = fit(net, read_checkpoint_at(weights.path), weights.source)
    return fitted.tensors, {
        "name": known.name,
        "model": known.model,
        "backbone": backbone,
        "stem": STEM,
        "dim": net.dim,
        "preprocessing": asdict(pictures),
        "pooling": pooling_of(net.model) if isinstance(net, TimmBackbone) else "avg",
        "layout": fitted.layout,
        "left_out": fitted.dropped,
        "licence": weights.licence,
        "trained_with": known.trained_with or UNKNOWN,
        "source": weights.source,
        "revision": weights.revision,
        "sha256": sha256,
    }
