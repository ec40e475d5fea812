"""A run as one module: pixels of squares in, probabilities of clusters out, as `predict` computes them.

    images uint8 [N, S, S, 3] -> (x / 255 - mean) / std -> network -> unit rows -> rule -> [N, C]

The rule is the ensemble of `consensus`, a head of SCAN or SeLa, or the posterior of a k-means.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rayscan.artifacts import Artifact
from rayscan.assignments import WASTE
from rayscan.config import ImagesConfig, Recipe
from rayscan.consensus.confidence import TINY
from rayscan.consensus.ensemble import Ensemble, Member
from rayscan.methods import METHODS
from rayscan.nets.heads import ClusterHeads
from rayscan.stages import consensus
from rayscan.stages.kmeans import Centroids
from rayscan.stages.rules import Rule, rule_of
from rayscan.training.models import feature_net, load_cluster_net


class Exported(nn.Module):
    """Squares of pixels -> probabilities, and the most probable cluster."""

    mean: Tensor
    std: Tensor
    number: Tensor
    membership: Tensor

    def __init__(
        self, features: nn.Module, rule: nn.Module, images: ImagesConfig, now: Sequence[int]
    ) -> None:
        """Join what there is.

        Args:
            features: Normalised pixels [N, 3, S, S] -> what the rule reads.
            rule: -> probabilities [N, C].
            images: Mean and standard deviation of the pixels.
            now: Number that each cluster of the rule has after edits, see `edited_numbers`.
        """
        super().__init__()
        self.features, self.rule = features, rule
        for name, values in (("mean", images.mean), ("std", images.std)):
            self.register_buffer(name, torch.tensor(values).reshape(1, 3, 1, 1))
        numbers = edited_numbers(now)
        self.is_edited = list(now) != list(range(len(now)))
        self.register_buffer("number", torch.tensor(now))
        columns = torch.tensor([numbers.index(number) for number in now])
        self.register_buffer("membership", nn.functional.one_hot(columns, len(numbers)).float())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Squares -> probabilities and clusters.

        After edits, only the cluster that the rule gives says which one it is now, as `edits.rule` has it;
        probabilities of joined clusters add up, there among the five best, here all.

        Args:
            images: uint8 [N, S, S, 3].

        Returns:
            float32 [N, C] in the order of `edited_numbers`, and int64 [N], numbers of clusters.
        """
        pixels = images.permute(0, 3, 1, 2).float() * (1 / 255)
        probabilities = self.rule(self.features((pixels - self.mean) / self.std))
        best = probabilities.argmax(dim=1)
        if not self.is_edited:
            return probabilities, best
        return probabilities @ self.membership, self.number[best]


def edited_numbers(now: Sequence[int]) -> list[int]:
    """Numbers of the clusters that are left, rising, waste last."""
    return sorted(set(now), key=lambda number: (number == WASTE, number))


class UnitFeatures(nn.Module):
    """Features of unit length, rounded as embeddings are stored."""

    def __init__(self, net: nn.Module, dtype: str) -> None:
        """Wrap a network; `dtype` is `embed.dtype`."""
        super().__init__()
        self.net, self.is_half = net, dtype == "float16"

    def forward(self, pixels: Tensor) -> Tensor:
        """[N, 3, S, S] -> [N, D]."""
        rows = nn.functional.normalize(self.net(pixels), dim=1)
        return rows.half().float() if self.is_half else rows


class MemberRule(nn.Module):
    """`consensus.ensemble.Member`: the sum over its heads of their translated softmax outputs."""

    mean: Tensor
    projection: Tensor
    weights: Tensor
    biases: Tensor
    translations: Tensor

    def __init__(self, member: Member) -> None:
        """Take the arrays."""
        super().__init__()
        self.is_root = member.reading.is_root
        for name in consensus.ARRAYS:
            self.register_buffer(name, torch.tensor(getattr(member, name)))

    def forward(self, features: Tensor) -> Tensor:
        """[N, D] -> [N, C]."""
        read = features.sign() * features.abs().sqrt() if self.is_root else features
        rows = (nn.functional.normalize(read, dim=1) - self.mean) @ self.projection
        outputs = (rows[None] @ self.weights + self.biases[:, None]).softmax(-1)
        return (outputs @ self.translations).sum(dim=0)


class EnsembleRule(nn.Module):
    """`consensus.ensemble`: mean over the heads of all members, tempered, on the features of one source."""

    def __init__(self, ensemble: Ensemble) -> None:
        """Take the members."""
        super().__init__()
        self.members = nn.ModuleList([MemberRule(member) for member in ensemble.members])
        self.num_heads = sum(len(member.weights) for member in ensemble.members)
        self.temperature = float(ensemble.temperature)

    def forward(self, features: Tensor) -> Tensor:
        """[N, D] -> [N, C]."""
        total = torch.stack([member(features) for member in self.members]).sum(dim=0)
        return ((total / self.num_heads).clamp(min=TINY).log() / self.temperature).softmax(-1)


class CentroidRule(nn.Module):
    """`stages.kmeans.Centroids`: the posterior of a mixture of equal spherical Gaussians, in float64."""

    mean: Tensor
    basis: Tensor
    weights: Tensor
    biases: Tensor

    def __init__(self, fitted: Centroids) -> None:
        """Take the components and the centroids that assign."""
        super().__init__()
        centroids = fitted.all[fitted.best].astype("float64")
        basis = fitted.pca.basis.astype("float32").T
        self.register_buffer("mean", torch.tensor(fitted.pca.mean.astype("float32")))
        self.register_buffer("basis", torch.tensor(basis))
        self.register_buffer("weights", torch.tensor(centroids.T / fitted.variance))
        self.register_buffer("biases", torch.tensor((centroids**2).sum(axis=1) / (-2 * fitted.variance)))

    def forward(self, features: Tensor) -> Tensor:
        """[N, D] -> [N, C]."""
        components = ((features - self.mean) @ self.basis).double()
        return (components @ self.weights + self.biases).softmax(-1).float()


class HeadRule(nn.Module):
    """One linear head of SCAN or SeLa."""

    def __init__(self, heads: ClusterHeads) -> None:
        """Take the first head."""
        super().__init__()
        self.weight = nn.Parameter(heads.weight[0].detach().clone())
        self.bias = nn.Parameter(heads.bias[0].detach().clone())

    def forward(self, features: Tensor) -> Tensor:
        """[N, D] -> [N, C]."""
        return nn.functional.linear(features, self.weight, self.bias).softmax(-1)


def exported_model(
    recipe: Recipe, pretext: Artifact, model: Artifact, images: ImagesConfig, now: Sequence[int]
) -> Exported:
    """The network and rule of a run, in eval mode, on the CPU.

    Args:
        recipe: Of the run, whose features are made by one network.
        pretext: The network.
        model: The rule: result of the stage that `methods` names.
        images: How pictures are normalised for the network.
        now: Number that each cluster of the model has after edits.
    """
    rule = rule_of(model)
    if rule is None:
        net = load_cluster_net(recipe, pretext, model)
        features = UnitFeatures(net.backbone, "float32") if net.is_normalized else net.backbone
        return Exported(features, HeadRule(net.heads), images, now).eval()
    backbone, _ = feature_net(recipe, pretext, trains=False)
    return Exported(UnitFeatures(backbone, recipe.embed.dtype), _module_of(rule), images, now).eval()


def _module_of(rule: Rule) -> nn.Module:
    if isinstance(rule, Centroids):
        return CentroidRule(rule)
    return EnsembleRule(rule) if isinstance(rule, Ensemble) else HeadRule(rule)


def model_stage(recipe: Recipe) -> str:
    """The stage whose result puts an image into a cluster."""
    return METHODS[recipe.method].model
