"""Layout of EfficientNets in the names of the package efficientnet_pytorch and its kin -> those of timm.

Blocks are numbered through there, and by stage and block here. A block that does not widen its input has a
depthwise and a pointwise convolution; others have a pointwise one before them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
WIDENING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
BLOCK = re.compile(r"_blocks\.(\d+)\.(\w+)\.(.+)")


def efficientnet(state: Mapping[str, Tensor], wanted: Iterable[str]) -> dict[str, Tensor] | None:
    """Weights under timm's names, if they are in this layout; what has no name here keeps its own.

    Args:
        state: Tensors by name.
        wanted: Names of the model's tensors, which say how many blocks a stage has.
    """
    if "_conv_stem.weight" not in state:
        return None
    found = {m.groups() for name in wanted if (m := re.match(r"blocks\.(\d+)\.(\d+)\.", name))}
    places = sorted((int(stage), int(block)) for stage, block in found)
    return {_renamed(key, state, places): value for key, value in state.items()}


def _renamed(key: str, state: Mapping[str, Tensor], places: list[tuple[int, int]]) -> str:
    if (match := BLOCK.fullmatch(key)) is None:
        first, _, rest = key.partition(".")
        return f"{OUTSIDE.get(first, first)}.{rest}"
    number, layer, rest = match.groups()
    names = WIDENING if f"_blocks.{number}._expand_conv.weight" in state else PLAIN
    if int(number) >= len(places) or layer not in names:
        return key
    stage, block = places[int(number)]
    return f"blocks.{stage}.{block}.{names[layer]}.{rest}"
