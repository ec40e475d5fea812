"""Vision transformers in the key names of other projects: each gives back the features of the same net.

Small nets of timm's own class get random weights; an inverse written here puts them under the names that
DINOv2 and transformers publish. That those names are right is known from published files, not from here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from timm.layers import GluMlp, SwiGLUPacked, resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from rayscan.errors import ArtifactError
from rayscan.nets.checkpoint_file import read_checkpoint
from rayscan.nets.fitting import fit
from rayscan.nets.timm_backbone import TimmBackbone

State = dict[str, Tensor]
DIM, DEPTH = 32, 2


def small(kind: str, size_px: int = 64) -> VisionTransformer:
    """A net of the family: DINOv2 with or without registers, its giant's SwiGLU, ViT, CLIP, SigLIP."""
    options: dict[str, Any] = {
        "registers": {"init_values": 1.0, "reg_tokens": 4, "no_embed_class": True},
        "dinov2": {"init_values": 1.0},
        "swiglu": {"init_values": 1.0, "mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU, "mlp_ratio": 4.0},
        "vit": {},
        "clip": {"pre_norm": True},
        "siglip": {"class_token": False, "global_pool": "map"},
    }[kind]
    return VisionTransformer(
        img_size=size_px, patch_size=16, embed_dim=DIM, depth=DEPTH, num_heads=2, num_classes=0, **options
    )


def trained(kind: str) -> VisionTransformer:
    """A net whose every weight is random: fresh ones have zeros and ones that would hide mistakes."""
    torch.manual_seed(len(kind))
    net = small(kind).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0.3, 0.5)
    return net


def renamed(state: State, *rules: tuple[str, str]) -> State:
    out = {}
    for key, value in state.items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        out[key] = value
    return out


def with_class_position(state: State) -> State:
    """Undo the folding of no_embed_class: the class token has a position embedding of its own again."""
    position = torch.linspace(-1, 2, DIM).reshape(1, 1, DIM)  # a constant would vanish in the first LayerNorm
    out = dict(state)
    out["cls_token"] = state["cls_token"] - position
    out["pos_embed"] = torch.cat([position, state["pos_embed"]], 1)
    return out


def dinov2(net: nn.Module) -> State:
    state = {**net.state_dict(), "mask_token": torch.zeros(1, DIM)}
    if "reg_token" in state:
        state = renamed(with_class_position(state), (r"^reg_token", "register_tokens"))
    if isinstance(net.get_submodule("blocks.0.mlp"), GluMlp):  # the other nets have fc1 and fc2 there
        state = renamed(state, (r"mlp\.fc1", "mlp.w12"), (r"mlp\.fc2", "mlp.w3"))
    return state


def dinov2_chunked(net: nn.Module) -> State:
    """As models are saved in training: blocks in chunks, and the number of the block behind."""
    return renamed(dinov2(net), (r"^blocks\.(\d+)", r"blocks.0.\1"))


def dinov2_teacher(net: nn.Module) -> dict[str, Any]:
    body = {f"backbone.{k}": v for k, v in dinov2_chunked(net).items()}
    return {"teacher": body | {"dino_head.mlp.0.weight": torch.zeros(3, DIM)}}


def parted(state: State, pattern: str, replacement: str, names: tuple[str, str, str]) -> State:
    """Matrices of query, key and value apart."""
    out: State = {}
    for key, value in state.items():
        if match := re.fullmatch(pattern, key):
            for name, part in zip(names, value.chunk(3), strict=True):
                out[match.expand(replacement).replace("?", name)] = part
        else:
            out[key] = value
    return out


def transformers_dinov2(net: nn.Module) -> State:
    state = dinov2(net)
    state = parted(
        state,
        r"blocks\.(\d+)\.attn\.qkv\.(.*)",
        r"encoder.layer.\1.attention.attention.?.\2",
        ("query", "key", "value"),
    )
    return renamed(
        state,
        (r"^(cls_token|mask_token|register_tokens)", r"embeddings.\1"),
        (r"^pos_embed", "embeddings.position_embeddings"),
        (r"^patch_embed\.proj", "embeddings.patch_embeddings.projection"),
        (r"^blocks\.(\d+)\.attn\.proj", r"encoder.layer.\1.attention.output.dense"),
        (r"^blocks\.(\d+)\.ls(\d)\.gamma", r"encoder.layer.\1.layer_scale\2.lambda1"),
        (r"^blocks", "encoder.layer"),
        (r"mlp\.w12", "mlp.weights_in"),
        (r"mlp\.w3", "mlp.weights_out"),
        (r"^norm", "layernorm"),
    )


def transformers_vit(net: nn.Module) -> State:
    state = renamed(
        transformers_dinov2(net),
        (r"\.norm1", ".layernorm_before"),
        (r"\.norm2", ".layernorm_after"),
        (r"mlp\.fc1", "intermediate.dense"),
        (r"mlp\.fc2", "output.dense"),
    )
    del state["embeddings.mask_token"]
    named = {f"vit.{k}": v for k, v in state.items()}
    return named | {"vit.pooler.dense.weight": torch.zeros(2, 2), "classifier.bias": torch.zeros(2)}


def tower(net: nn.Module) -> State:
    state = dict(net.state_dict())
    if "attn_pool.q.weight" in state:
        for kind in ("weight", "bias"):
            q, kv = state.pop(f"attn_pool.q.{kind}"), state.pop(f"attn_pool.kv.{kind}")
            state[f"head.attention.in_proj_{kind}"] = torch.cat([q, kv])
    state = parted(
        state, r"blocks\.(\d+)\.attn\.qkv\.(.*)", r"encoder.layers.\1.self_attn.?_proj.\2", ("q", "k", "v")
    )
    state = renamed(
        state,
        (r"^cls_token", "embeddings.class_embedding"),
        (r"^pos_embed", "embeddings.position_embedding.weight"),
        (r"^patch_embed\.proj", "embeddings.patch_embedding"),
        (r"^norm_pre", "pre_layrnorm"),
        (r"^norm", "post_layernorm"),
        (r"^blocks\.(\d+)\.attn\.proj", r"encoder.layers.\1.self_attn.out_proj"),
        (r"^blocks\.(\d+)\.norm(\d)", r"encoder.layers.\1.layer_norm\2"),
        (r"^blocks", "encoder.layers"),
        (r"^attn_pool\.latent", "head.probe"),
        (r"^attn_pool\.proj", "head.attention.out_proj"),
        (r"^attn_pool\.norm", "head.layernorm"),
        (r"^attn_pool", "head"),
    )
    for name in ("class_embedding", "position_embedding.weight"):
        if (key := f"embeddings.{name}") in state:
            state[key] = state[key].squeeze(0).squeeze(0)
    named = {f"vision_model.{k}": v for k, v in state.items()}
    beside = {"text_model.final_layer_norm.bias": torch.zeros(2), "logit_scale": torch.zeros(())}
    return named | beside | {"vision_model.embeddings.position_ids": torch.zeros(1, 16)}


CASES: list[tuple[str, Callable[[nn.Module], dict[str, Any]], str, list[str]]] = [
    ("registers", dinov2, "dinov2", ["mask_token"]),
    ("dinov2", dinov2, "dinov2", ["mask_token"]),
    ("swiglu", dinov2, "dinov2", ["mask_token"]),
    ("registers", dinov2_chunked, "dinov2", ["mask_token"]),
    ("swiglu", dinov2_teacher, "dinov2", ["dino_head", "mask_token"]),
    ("registers", transformers_dinov2, "transformers", ["embeddings.mask_token"]),
    ("dinov2", transformers_dinov2, "transformers", ["embeddings.mask_token"]),
    ("swiglu", transformers_dinov2, "transformers", ["embeddings.mask_token"]),
    ("vit", transformers_vit, "transformers", ["classifier", "pooler"]),
    ("clip", tower, "clip", ["embeddings.position_ids", "logit_scale", "text_model"]),
    ("siglip", tower, "siglip", ["embeddings.position_ids", "logit_scale", "text_model"]),
]


@pytest.mark.parametrize(
    ("kind", "layout", "name", "left_out"), CASES, ids=lambda c: getattr(c, "__name__", str(c))
)
def test_every_layout_gives_the_same_features(
    kind: str, layout: Callable[[nn.Module], dict[str, Any]], name: str, left_out: list[str]
) -> None:
    """To rounding: the class token is a sum of two where it was folded."""
    theirs, ours = trained(kind), TimmBackbone(small(kind).eval())
    assert "blocks.0.attn.qkv.weight" in theirs.state_dict()
    found = fit(ours, layout(theirs), "here")
    assert (found.layout, found.dropped) == (name, left_out)
    stored = load(save(found.tensors))  # as a run stores them: no two may share memory
    ours.load_state_dict(stored)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["registers", "dinov2"])
@pytest.mark.parametrize("layout", [dinov2, transformers_dinov2], ids=lambda f: f.__name__)
def test_position_embeddings_get_the_size_of_the_pictures(
    kind: str, layout: Callable[[nn.Module], dict[str, Any]]
) -> None:
    """A file of 4 x 4 patches in a net of 6 x 6, by timm's function; the class token keeps its own."""
    theirs = trained(kind)
    ours = TimmBackbone(small(kind, size_px=96).eval())
    found = fit(ours, layout(theirs), "here").tensors["model.pos_embed"]
    prefix = 0 if kind == "registers" else 1
    wanted = resample_abs_pos_embed(theirs.pos_embed.detach(), [6, 6], num_prefix_tokens=prefix)
    assert found.shape == (1, 36 + prefix, DIM)
    torch.testing.assert_close(found, wanted)


def test_swiglu_is_the_gate_of_the_first_half() -> None:
    """silu(x W1) * (x W2), then W3 (arXiv 2002.05202, Eq. 6), with W1 above W2 in DINOv2's w12."""
    net = trained("swiglu")
    weights = {k.removeprefix("blocks.0.mlp."): v for k, v in dinov2(net).items() if "blocks.0.mlp" in k}
    x = torch.randn(5, DIM)
    gate, value = torch.nn.functional.linear(x, weights["w12.weight"], weights["w12.bias"]).chunk(2, dim=1)
    wanted = torch.nn.functional.linear(
        gate / (1 + torch.exp(-gate)) * value, weights["w3.weight"], weights["w3.bias"]
    )
    torch.testing.assert_close(net.get_submodule("blocks.0.mlp")(x), wanted, rtol=1e-4, atol=1e-4)


def test_timms_own_names_and_a_name_before_them() -> None:
    net = trained("registers")
    state = net.state_dict() | {"head.weight": torch.zeros(5, DIM)}
    ours = TimmBackbone(small("registers"))
    found = fit(ours, state, "here")
    assert (found.layout, found.dropped) == ("timm", ["head"])
    inside = {f"visual.trunk.{k}": v for k, v in net.state_dict().items()} | {"text.ln.bias": torch.zeros(1)}
    found = fit(ours, inside, "here")
    assert (found.layout, found.dropped) == ("timm in visual.trunk", ["text"])
    assert all(torch.equal(found.tensors[f"model.{k}"], v) for k, v in net.state_dict().items())


def test_another_network_is_refused_with_names_and_shapes() -> None:
    """A layer less, a layer more, and another width are all said."""
    state = trained("dinov2").state_dict()
    ours = TimmBackbone(small("registers"))
    with pytest.raises(ArtifactError, match=r"(?s)missing model\.reg_token.*other shape"):
        fit(ours, state, "here")
    deeper = {**trained("registers").state_dict(), "blocks.2.norm1.weight": torch.zeros(DIM)}
    with pytest.raises(ArtifactError, match=r"unexpected model\.blocks\.2\.norm1\.weight"):
        fit(ours, deeper, "here")
    wider = {
        k: torch.cat([v, v]) if k == "norm.bias" else v for k, v in trained("registers").state_dict().items()
    }
    with pytest.raises(ArtifactError, match=r"model\.norm\.bias \(64,\) for \(32,\)"):
        fit(ours, wider, "here")
    with pytest.raises(ArtifactError, match="no weights"):
        fit(ours, {"epoch": 3}, "here")


def test_half_a_projection_is_not_a_whole_one() -> None:
    """Query and value without key: the matrix is missing, and said to be."""
    state = transformers_dinov2(trained("dinov2"))
    del state["encoder.layer.0.attention.attention.key.weight"]
    with pytest.raises(ArtifactError, match=r"missing model\.blocks\.0\.attn\.qkv\.weight"):
        fit(TimmBackbone(small("dinov2")), state, "here")


def test_a_resnet_of_timm_is_read_in_the_layouts_of_resnets() -> None:
    """MoCo's names for a net of timm, as for rayscan's own."""
    from rayscan.nets.catalog import build_backbone

    torch.manual_seed(0)
    ours = build_backbone("timm/resnet18", "imagenet", is_sync=False)
    state = {k.removeprefix("model."): torch.randn_like(v.float()) for k, v in ours.state_dict().items()}
    moco = {f"module.encoder_q.{k}": v for k, v in state.items()}
    found = fit(ours, {"state_dict": moco | {"module.queue": torch.zeros(2, 2)}}, "here")
    assert found.dropped == ["queue"]
    assert all(torch.equal(found.tensors[f"model.{k}"], v) for k, v in state.items())


def test_cut_off_safetensors_are_refused() -> None:
    data = save({"a": torch.ones(100)})
    with pytest.raises(ArtifactError, match="damaged"):
        read_checkpoint(data[:-10], "weights.safetensors")
