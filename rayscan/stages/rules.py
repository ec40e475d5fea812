"""The rule of a run: what puts stored features into clusters, whichever stage fitted it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch

from rayscan.artifacts import Artifact
from rayscan.consensus.ensemble import Ensemble
from rayscan.nets.heads import ClusterHeads
from rayscan.stages.consensus import READS, read_ensemble
from rayscan.stages.kmeans import Centroids
from rayscan.training.models import load_heads
from rayscan.types import Floats

Rule: TypeAlias = Centroids | Ensemble | ClusterHeads


def rule_of(model: Artifact) -> Rule | None:
    """The rule that a model is; None where it is a network that reads images.

    Args:
        model: Result of the stage that `methods` names.

    Raises:
        ArtifactError: it cannot be read.
    """
    if not reads_features(model):
        return None
    reads = model.facts["reads"]
    if reads == "components":
        return Centroids.read(model)
    return read_ensemble(model) if reads == READS else load_heads(model).eval()


def reads_features(model: Artifact) -> bool:
    """Whether a model reads stored features, made by a frozen network, and not images."""
    return bool(model.facts["reads"] != "images")


def reads_spaces(rule: Rule) -> bool:
    """Whether a rule wants the features of each of several sources, and not their join."""
    return isinstance(rule, Ensemble)


def probabilities(rule: Rule, features: Sequence[Floats]) -> Floats:
    """Probabilities of all clusters.

    Args:
        rule: From `rule_of`.
        features: Unit rows [n, D] of each source where `reads_spaces`; else one array, of the join if there
            are several.

    Returns:
        [n, C].
    """
    if isinstance(rule, Ensemble):
        return rule.probabilities(tuple(features))
    (rows,) = features
    if isinstance(rule, Centroids):
        return rule.probabilities(rule.pca.project(rows))
    with torch.inference_mode():
        probs: Floats = rule(torch.from_numpy(np.ascontiguousarray(rows)))[0].softmax(-1).numpy()
    return probs
