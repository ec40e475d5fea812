"""Networks from artifacts: weights that pretext, scan, selflabel or sela wrote become a net again."""

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
from rayscan.nets.catalog import TIMM, build_backbone
from rayscan.nets.heads import ClusterHeads, ClusterNet, ProjectedNet
from rayscan.objectives.pretexts import build_projected_net

WEIGHTS = "backbone.safetensors"
MODEL = "model.safetensors"
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
    net = build_projected_net(settings, pretext.facts.get("size_px"))
    load_into(net, unpack(pretext.read(WEIGHTS)), pretext.uri_of(WEIGHTS))
    return net


def load_backbone(settings: PretextConfig, pretext: Artifact, *, trains: bool = True) -> Backbone:
    """The backbone alone: trained here, or taken over.

    Args:
        settings: Say which network it is, where the result itself does not.
        pretext: Result of the pretext stage.
        trains: Whether it will be trained; a frozen network needs no synchronised normalisation.
    """
    told = pretext.facts
    if "model" in told:
        net = build_backbone(
            f"{TIMM}{told['model']}",
            settings.stem,
            is_sync=trains and settings.sync_batchnorm,
            size_px=told["preprocessing"]["size_px"],
            pooling=told.get("pooling", ""),
        )
    else:
        net = build_backbone(
            settings.backbone,
            settings.stem,
            is_sync=settings.sync_batchnorm,
            size_px=told.get("size_px"),
        )
    load_into(net, under(unpack(pretext.read(WEIGHTS)), "backbone"), pretext.uri_of(WEIGHTS))
    return net


def feature_net(recipe: Recipe, pretext: Artifact, *, trains: bool = True) -> tuple[nn.Module, int]:
    """What embed computes before scaling to unit length, and its width; `trains` as in `load_backbone`."""
    if recipe.embed.space == "projection":
        return load_pretext_net(recipe.pretext, pretext), recipe.pretext.projection_dim
    backbone = load_backbone(recipe.pretext, pretext, trains=trains)
    return backbone, backbone.dim


def fresh_heads(recipe: Recipe, num_heads: int, dim: int) -> ClusterHeads:
    """Cluster heads on features of width D, from the run's seed."""
    temperature = recipe.scan.start_temperature if recipe.method == "scan" else 1.0
    with_seed(recipe.seed, "heads")
    return ClusterHeads(num_heads, dim, recipe.clusters, temperature=temperature)


def build_cluster_net(recipe: Recipe, pretext: Artifact, num_heads: int) -> ClusterNet:
    """Features and fresh heads.

    Heads for cached embeddings read the embedding space; heads that only ever see images sit on the backbone.
    """
    inputs = recipe.sela.inputs if recipe.method == "sela" else recipe.scan.inputs
    if inputs != "images":
        features, dim = feature_net(recipe, pretext)
    elif recipe.method == "sela" and recipe.sela.start == "fresh":
        features, dim = _fresh_backbone(recipe)
    else:
        features, dim = _with_dim(load_backbone(recipe.pretext, pretext))
    return ClusterNet(features, fresh_heads(recipe, num_heads, dim), is_normalized=inputs != "images")


def _fresh_backbone(recipe: Recipe) -> tuple[nn.Module, int]:
    """Random weights, perhaps of another network than the pretext's: label transfer."""
    settings = recipe.sela
    with_seed(recipe.seed, "sela")
    name, stem = settings.backbone or recipe.pretext.backbone, settings.stem or recipe.pretext.stem
    is_sync, size_px = recipe.pretext.sync_batchnorm, recipe.images.size_px
    return _with_dim(build_backbone(name, stem, is_sync=is_sync, size_px=size_px))


def _with_dim(backbone: Backbone) -> tuple[nn.Module, int]:
    return backbone, backbone.dim


def load_cluster_net(recipe: Recipe, pretext: Artifact, model: Artifact) -> ClusterNet:
    """The net of a scan, selflabel or sela artifact, one head."""
    net = build_cluster_net(recipe, pretext, num_heads=1)
    load_into(net, unpack(model.read(MODEL)), model.uri_of(MODEL))
    return net


def load_heads(model: Artifact) -> ClusterHeads:
    """The head alone."""
    return heads_from(under(unpack(model.read(MODEL)), "heads"))


def heads_from(state: Mapping[str, Tensor]) -> ClusterHeads:
    """Cluster heads from their state."""
    num_heads, num_clusters, dim = state["weight"].shape
    heads = ClusterHeads(num_heads, dim, num_clusters).to(state["weight"].device)
    heads.load_state_dict(state)
    return heads


def with_backbone(recipe: Recipe, pretext: Artifact | None, heads: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of heads that trained on embeddings (`heads.*`), with the network they read, as one net.

    Features that no single network makes (files, several sources) leave the heads alone.
    """
    if pretext is None or not recipe.spaces[0].has_net:
        return dict(heads)
    features, _ = feature_net(recipe, pretext, trains=False)
    return {f"backbone.{k}": v for k, v in features.state_dict().items()} | dict(heads)


def load_into(net: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Load all weights, and only them.

    Args:
        net: Network to fill.
        tensors: Weights by the network's names.
        where: Their address, for messages.

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
            fix=TRAINED_WITH,
        )
    net.load_state_dict(tensors)
