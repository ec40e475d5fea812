"""The network of `read_pretrained`, ready to be asked, for tests and benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rayscan.config.preprocessing import Preprocessing
from rayscan.nets.backbone import Backbone
from rayscan.nets.catalog import build_backbone
from rayscan.training.pictures import recorded_preprocessing


def frozen_net(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[Backbone, Preprocessing]:
    """The network of `read_pretrained` in eval mode, and how its pictures are made.

    Args:
        facts: As recorded.
        tensors: Its weights; those in half precision become single.
    """
    pictures = recorded_preprocessing(facts["preprocessing"])
    net = build_backbone(
        facts["backbone"],
        facts["stem"],
        is_sync=False,
        size_px=pictures.size_px,
        pooling=facts["pooling"] if facts["pooling"] in ("token", "avg") else "",
    )
    net.load_state_dict(tensors)
    return net.eval().requires_grad_(requires_grad=False), pictures
