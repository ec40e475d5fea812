"""Layouts of published vision transformers: their key names -> those of timm.

    layout         keys of the first block                       models
    dinov2         blocks.0.attn.qkv.weight, beside mask_token   DINOv2's own files; chunked: blocks.0.0.attn
    transformers   encoder.layer.0.attention.attention.query     Dinov2Model, Dinov2WithRegisters, ViTModel
    clip, siglip   encoder.layers.0.self_attn.q_proj             the vision towers of CLIPModel, SiglipModel

Written from the key names that these projects publish, not from their code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

Rules = tuple[tuple[str, str], ...]

DINOV2: Rules = (
    (r"blocks\.\d+\.(\d+)\.(.+)", r"blocks.\1.\2"),
    (r"(blocks\..+)\.w12\.(.+)", r"\1.fc1.\2"),
    (r"(blocks\..+)\.w3\.(.+)", r"\1.fc2.\2"),
    (r"register_tokens", r"reg_token"),
    (r"((?:blocks|norm|patch_embed)\..+|cls_token|pos_embed)", r"\1"),
)
"""Pattern of a whole key -> its name in timm; all are tried, in this order."""
LAYER = r"encoder\.layer\.(\d+)\."
TRANSFORMERS: Rules = (
    (r"embeddings\.cls_token", r"cls_token"),
    (r"embeddings\.register_tokens", r"reg_token"),
    (r"embeddings\.position_embeddings", r"pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.(\w+)", r"patch_embed.proj.\1"),
    (LAYER + r"attention\.attention\.(query|key|value)\.(\w+)", r"blocks.\1.attn.\2.\3"),
    (LAYER + r"attention\.output\.dense\.(\w+)", r"blocks.\1.attn.proj.\2"),
    (LAYER + r"(?:norm1|layernorm_before)\.(\w+)", r"blocks.\1.norm1.\2"),
    (LAYER + r"(?:norm2|layernorm_after)\.(\w+)", r"blocks.\1.norm2.\2"),
    (LAYER + r"layer_scale([12])\.lambda1", r"blocks.\1.ls\2.gamma"),
    (LAYER + r"(?:mlp\.fc1|mlp\.weights_in|intermediate\.dense)\.(\w+)", r"blocks.\1.mlp.fc1.\2"),
    (LAYER + r"(?:mlp\.fc2|mlp\.weights_out|output\.dense)\.(\w+)", r"blocks.\1.mlp.fc2.\2"),
    (r"layernorm\.(\w+)", r"norm.\1"),
)
LAYERS = r"encoder\.layers\.(\d+)\."
TOWER: Rules = (
    (r"embeddings\.class_embedding", r"cls_token"),
    (r"embeddings\.position_embedding\.weight", r"pos_embed"),
    (r"embeddings\.patch_embedding\.(\w+)", r"patch_embed.proj.\1"),
    (r"pre_layrnorm\.(\w+)", r"norm_pre.\1"),  # so written in every published file
    (LAYERS + r"self_attn\.q_proj\.(\w+)", r"blocks.\1.attn.query.\2"),
    (LAYERS + r"self_attn\.k_proj\.(\w+)", r"blocks.\1.attn.key.\2"),
    (LAYERS + r"self_attn\.v_proj\.(\w+)", r"blocks.\1.attn.value.\2"),
    (LAYERS + r"self_attn\.out_proj\.(\w+)", r"blocks.\1.attn.proj.\2"),
    (LAYERS + r"layer_norm([12])\.(\w+)", r"blocks.\1.norm\2.\3"),
    (LAYERS + r"mlp\.fc([12])\.(\w+)", r"blocks.\1.mlp.fc\2.\3"),
    (r"post_layernorm\.(\w+)", r"norm.\1"),
    (r"head\.probe", r"attn_pool.latent"),
    (r"head\.attention\.in_proj_(\w+)", r"attn_pool.qkv.\1"),
    (r"head\.attention\.out_proj\.(\w+)", r"attn_pool.proj.\1"),
    (r"head\.layernorm\.(\w+)", r"attn_pool.norm.\1"),
    (r"head\.mlp\.fc([12])\.(\w+)", r"attn_pool.mlp.fc\1.\2"),
)
MARKS = (
    ("transformers", "embeddings.patch_embeddings.projection.weight", TRANSFORMERS),
    ("siglip", "embeddings.patch_embedding.weight", TOWER),
)
"""Layout, the end of a key that only it has, its rules. What stands before that end is the prefix of all."""


def transformer(
    state: Mapping[str, Tensor], *, folds_class: bool
) -> tuple[str, dict[str, Tensor], list[str]] | None:
    """Weights under timm's names, if they are in one of these layouts.

    Args:
        state: Tensors by name.
        folds_class: The model adds position embeddings to patches alone (`no_embed_class`); published
            files have one for the class token too, which then becomes part of that token.

    Returns:
        Name of the layout, the weights, and the first parts of the names of what was left out; or none.
    """
    layout, prefix, rules = _recognised(state)
    if not layout:
        return None
    named: dict[str, Tensor] = {}
    left_out: set[str] = set()
    for key, value in state.items():
        name = _renamed(key.removeprefix(prefix), rules) if key.startswith(prefix) else None
        if name is None:
            rest = key.removeprefix(prefix).split(".")
            left_out.add(".".join(rest[:2]) if rest[0] == "embeddings" else rest[0])
        else:
            named[name] = value
    if layout == "siglip" and "cls_token" in named:
        layout = "clip"
    _shape_tokens(named)
    if folds_class and "cls_token" in named and "pos_embed" in named:
        named["cls_token"] = named["cls_token"] + named["pos_embed"][:, :1]
        named["pos_embed"] = named["pos_embed"][:, 1:].clone()
    return layout, _joined(named), sorted(left_out)


def _recognised(state: Mapping[str, Tensor]) -> tuple[str, str, Rules]:
    """Layout, prefix and rules; an empty layout if none fits."""
    for layout, mark, rules in MARKS:
        if (key := next((k for k in state if k.endswith(mark)), None)) is not None:
            return layout, key.removesuffix(mark), rules
    for token in ("mask_token", "register_tokens"):
        if (key := next((k for k in state if k.endswith(token)), None)) is not None:
            prefix = key.removesuffix(token)
            if any(k.startswith(f"{prefix}blocks.") for k in state):
                return "dinov2", prefix, DINOV2
    return "", "", ()


def _renamed(key: str, rules: Rules) -> str | None:
    """The name of a key in timm; none if no rule knows it."""
    name, changed = key, False
    for pattern, replacement in rules:
        if re.fullmatch(pattern, name):
            name, changed = re.sub(pattern, replacement, name), True
    return name if changed else None


def _shape_tokens(named: dict[str, Tensor]) -> None:
    """Give class token [1, 1, D] and position embeddings [1, N, D] the axes that the towers lack."""
    for name in ("cls_token", "pos_embed"):
        if name in named:
            named[name] = named[name].reshape(1, -1, named[name].shape[-1])


def _joined(named: dict[str, Tensor]) -> dict[str, Tensor]:
    """Query, key and value of the blocks in one matrix [3 D, D]; those of the pooling in two, q and kv."""
    out: dict[str, Tensor] = {}
    for name, value in named.items():
        if ".attn.query." in name:
            parts = [named.get(name.replace(".query.", f".{part}.")) for part in ("query", "key", "value")]
            whole = [p for p in parts if p is not None]
            if len(whole) == len(parts):
                out[name.replace(".query.", ".qkv.")] = torch.cat(whole)
        elif name.startswith("attn_pool.qkv."):
            dim = value.shape[0] // 3
            out[name.replace(".qkv.", ".q.")] = value[:dim].clone()  # safetensors refuses shared memory
            out[name.replace(".qkv.", ".kv.")] = value[dim:].clone()
        elif not re.search(r"\.attn\.(key|value)\.", name):
            out[name] = value
    return out
