"""Layouts of published ResNets: key names of their state dicts -> the backbone's own names.

    layout       keys of the first convolution, and by what it is known
    moco         module.encoder_q.conv1.weight       (v1: fc.weight, v2: fc.0.weight and fc.2.weight)
    dino         teacher: backbone.conv1.weight      beside student; the backbone alone is `plain`
    swav         module.conv1.weight                 beside prototypes.weight, projection_head.*
    lightly      backbone.0.weight                   the children of a ResNet in a Sequential
    solo-learn   backbone.conv1.weight               beside projector.*, classifier.*; older files: encoder.*
    rayscan      backbone.conv1.weight               alone, or beside projection.*
    simclr       backbone.conv1.weight, encoder.*    with the head inside or beside
    plain        conv1.weight                        torchvision, timm, DINO's backbone files

Written from the key names that these projects document and publish, not from their code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from rayscan.errors import ArtifactError

CONTAINERS = ("state_dict", "model_state_dict", "model", "teacher", "net")
WRAPPERS = ("module.", "_orig_mod.")
PREFIXES = ("encoder_q.", "teacher_backbone.", "student_backbone.", "backbone.", "encoder.")
HEADS = {
    "fc",
    "head",
    "heads",
    "classifier",
    "linear",
    "projector",
    "predictor",
    "projection",
    "projection_head",
    "prediction_head",
    "contrastive_head",
    "prototypes",
    "mlp",
}
CONVOLUTION_DIMS = 4
PROJECTIONS = ("projection", "contrastive_head", "fc")
MLP = {"0.weight", "0.bias", "2.weight", "2.bias"}


@dataclass(frozen=True)
class Adapted:
    """A backbone's weights under the backbone's own names."""

    layout: str
    tensors: dict[str, Tensor]
    projection: dict[str, Tensor]
    """The projection head, if it is Linear, ReLU, Linear as ours; empty otherwise."""
    dropped: list[str]
    """First parts of the names of what was left out: heads, second encoders, queues."""


def adapt(tree: Mapping[str, Any], where: str) -> Adapted:
    """Find the backbone in a checkpoint.

    Args:
        tree: What `checkpoint_file.read_checkpoint` gave.
        where: Its address, for messages.

    Raises:
        ArtifactError: there are no named tensors in it.
    """
    state, is_teacher = weights_in(tree)
    require_weights(state, tree, where)
    prefix = next((p for p in PREFIXES if any(k.startswith(p) for k in state)), "")
    inside = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    layout = "dino" if is_teacher else _layout(prefix, state, inside)
    named = _named(inside)
    kept = {k: v for k, v in named.items() if k.partition(".")[0] not in HEADS}
    heads = {prefix + k.partition(".")[0] for k in named if k.partition(".")[0] in HEADS}
    others = {k.partition(".")[0] for k in state if not k.startswith(prefix)}
    projection = projection_in(named) or projection_in(state)
    return Adapted(layout, kept, projection, sorted(heads | others))


def require_weights(state: Mapping[str, Tensor], tree: Mapping[str, Any], where: str) -> None:
    """Refuse a checkpoint in which no tensors were found.

    Raises:
        ArtifactError: naming what is in it.
    """
    if not state:
        raise ArtifactError(
            "there are no weights in the checkpoint",
            expected=f"named tensors, at the top or below {', '.join(CONTAINERS)}",
            got=", ".join(map(str, list(tree)[:8])) or "nothing",
            where=where,
        )


def projection_in(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The projection head beside a backbone, if it is Linear, ReLU, Linear; empty otherwise."""
    for name in PROJECTIONS:
        found = {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}
        if found.keys() == MLP:
            return found
    return {}


def complete(adapted: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`adapted`, with the step counters of batch normalisation that older files lack taken from `wanted`.

    They enter no result: running averages here have a fixed momentum.
    """
    counters = {k: v for k, v in wanted.items() if k.endswith("num_batches_tracked")}
    return {**counters, **adapted}


def weights_in(tree: Mapping[str, Any]) -> tuple[dict[str, Tensor], bool]:
    """Named tensors without the names of wrappers, and whether they are DINO's teacher."""
    is_teacher = False
    while (found := next((k for k in CONTAINERS if isinstance(tree.get(k), Mapping)), None)) is not None:
        is_teacher = is_teacher or found == "teacher"
        tree = tree[found]
    state = {str(k): v for k, v in tree.items() if isinstance(v, Tensor)}
    while any(k.startswith(WRAPPERS) for k in state):
        state = {_unwrapped(k): v for k, v in state.items()}
    return state, is_teacher


def _unwrapped(key: str) -> str:
    for wrapper in WRAPPERS:
        key = key.removeprefix(wrapper)
    return key


def _layout(prefix: str, state: Mapping[str, Tensor], inside: Mapping[str, Tensor]) -> str:
    def has(*starts: str) -> bool:
        return any(k.startswith(starts) for k in state)

    if prefix == "encoder_q.":
        return "moco"
    if any(re.match(r"\d+\.", k) for k in inside) or prefix in ("teacher_backbone.", "student_backbone."):
        return "lightly"
    if prefix == "":
        return "swav" if has("prototypes", "projection_head.") else "plain"
    if has("projector.", "classifier.", "momentum_backbone."):
        return "solo-learn"
    is_bare = len(inside) == len(state) and not any(k.partition(".")[0] in HEADS for k in inside)
    return "rayscan" if is_bare or has("projection.") else "simclr"


def _named(inside: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Torchvision's names; the children of a Sequential get theirs by what they are and by their order."""
    rename = _of_sequential(inside) if any(re.match(r"\d+\.", k) for k in inside) else str
    return {rename(k).replace(".shortcut.", ".downsample."): v for k, v in inside.items()}


def _of_sequential(inside: Mapping[str, Tensor]) -> Callable[[str], str]:
    """Child number -> name: the first convolution, the first normalisation, then layer1, layer2, ..."""
    numbers = sorted({int(k.partition(".")[0]) for k in inside if re.match(r"\d+\.", k)})
    names: dict[str, str] = {}
    stage = 0
    for number in numbers:
        weight = inside.get(f"{number}.weight")
        if weight is None:
            stage += 1
            names[str(number)] = f"layer{stage}"
        elif weight.dim() == CONVOLUTION_DIMS:
            names[str(number)] = "conv1"
        else:
            names[str(number)] = "bn1" if f"{number}.running_mean" in inside else "fc"

    def rename(key: str) -> str:
        first, dot, rest = key.partition(".")
        return names.get(first, first) + dot + rest

    return rename
