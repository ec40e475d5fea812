"""Networks from artifacts: what pretext, scan and selflabel wrote becomes a net again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rayscan.artifacts import Artifact
from rayscan.config import PretextConfig, Recipe
from rayscan.engine.tensors import under, unpack
from rayscan.errors import ArtifactError
from rayscan.nets.backbone import Backbone
from rayscan.nets.catalog import build_backbone
from rayscan.nets.heads import ClusterHeads, ClusterNet, ProjectedNet
from rayscan.objectives.pretexts import build_projected_net

WEIGHTS = "backbone.safetensors"
TRAINED_WITH = "use the recipe the weights were trained with"


def seeded(seed: int, *purpose: object) -> torch.Generator:
    """A generator for weights, from the run's seed and what they are for."""
    words = hashlib.sha256(repr((seed, *purpose)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(words[:8], "big") >> 1)


def with_seed(seed: int, *purpose: object) -> None:
    """Seed torch's own generator, which initialises weights, from the run's seed and a purpose."""
    torch.manual_seed(int(torch.randint(2**62, (1,), generator=seeded(seed, *purpose))))


def load_pretext_net(settings: PretextConfig, pretext: Artifact) -> ProjectedNet:
    """Backbone and projection head with the trained weights."""
    net = build_projected_net(settings)
    load_into(net, unpack(pretext.read(WEIGHTS)), pretext.uri_of(WEIGHTS))
    return net


def load_backbone(settings: PretextConfig, pretext: Artifact) -> Backbone:
    """The backbone alone, trained here or read from a checkpoint."""
    net = build_backbone(settings.backbone, settings.stem, is_sync=settings.sync_batchnorm)
    load_into(net, under(unpack(pretext.read(WEIGHTS)), "backbone"), pretext.uri_of(WEIGHTS))
    return net


def feature_net(recipe: Recipe, pretext: Artifact) -> tuple[nn.Module, int]:
    """What embed computes before scaling to unit length, and its width."""
    if recipe.embed.space == "projection":
        return load_pretext_net(recipe.pretext, pretext), recipe.pretext.projection_dim
    backbone = load_backbone(recipe.pretext, pretext)
    return backbone, backbone.dim


def build_cluster_net(recipe: Recipe, pretext: Artifact, num_heads: int) -> ClusterNet:
    """Trained features and fresh heads.

    Heads for cached embeddings read the embedding space; heads that only ever see images sit on the backbone.
    """
    if recipe.method == "sela":
        return _sela_net(recipe, pretext, num_heads)
    is_from_embeddings = recipe.scan.inputs != "images"
    if is_from_embeddings:
        features, dim = feature_net(recipe, pretext)
    else:
        backbone = load_backbone(recipe.pretext, pretext)
        features, dim = backbone, backbone.dim
    assert recipe.num_clusters is not None
    with_seed(recipe.seed, "heads")
    heads = ClusterHeads(num_heads, dim, recipe.num_clusters, temperature=recipe.scan.start_temperature)
    return ClusterNet(features, heads, is_normalized=is_from_embeddings)


def _sela_net(recipe: Recipe, pretext: Artifact, num_heads: int) -> ClusterNet:
    """Features as `recipe.sela` says: of the pretext, or of a fresh backbone, perhaps another one."""
    settings = recipe.sela
    assert recipe.num_clusters is not None
    if settings.inputs == "embeddings":
        features, dim = feature_net(recipe, pretext)
    elif settings.start == "pretext":
        backbone = load_pretext_net(recipe.pretext, pretext).backbone
        features, dim = backbone, backbone.dim  # type: ignore[assignment]
    else:
        with_seed(recipe.seed, "sela")
        name, stem = settings.backbone or recipe.pretext.backbone, settings.stem or recipe.pretext.stem
        fresh = build_backbone(name, stem, is_sync=recipe.pretext.sync_batchnorm)
        features, dim = fresh, fresh.dim
    with_seed(recipe.seed, "heads")
    heads = ClusterHeads(num_heads, dim, recipe.num_clusters)
    return ClusterNet(features, heads, is_normalized=settings.inputs == "embeddings")


def load_cluster_net(recipe: Recipe, pretext: Artifact, model: Artifact) -> ClusterNet:
    """The net of a scan or selflabel artifact, one head."""
    net = build_cluster_net(recipe, pretext, num_heads=1)
    load_into(net, unpack(model.read("model.safetensors")), model.uri_of("model.safetensors"))
    return net


def load_heads(model: Artifact) -> ClusterHeads:
    """The head alone."""
    state = under(unpack(model.read("model.safetensors")), "heads")
    num_heads, num_clusters, dim = state["weight"].shape
    heads = ClusterHeads(num_heads, dim, num_clusters)
    heads.load_state_dict(state)
    return heads


def load_into(net: nn.Module, tensors: Mapping[str, Tensor], where: str, fix: str = TRAINED_WITH) -> None:
    """Load all weights, and only them.

    Args:
        net: Network to fill.
        tensors: Weights by the network's names.
        where: Their address, for messages.
        fix: What to do if they do not fit.

    Raises:
        ArtifactError: naming the missing and the unexpected keys.
    """
    wanted = net.state_dict()
    missing = sorted(wanted.keys() - tensors.keys())
    surplus = sorted(tensors.keys() - wanted.keys())
    reshaped = [
        f"{k} {tuple(tensors[k].shape)} for {tuple(v.shape)}"
        for k, v in wanted.items()
        if k in tensors and tensors[k].shape != v.shape
    ]
    if missing or surplus or reshaped:
        raise ArtifactError(
            "stored weights do not fit the network",
            expected=f"{len(wanted)} tensors" + (f"; missing {', '.join(missing[:8])}" if missing else ""),
            got=f"{len(tensors)} tensors; unexpected {', '.join(surplus[:8]) or 'none'}; "
            f"other shape {', '.join(reshaped[:4]) or 'none'}",
            where=where,
            fix=fix,
        )
    net.load_state_dict(tensors)
