"""Weighted pointwise mutual information of a pair (TEMI, arXiv 2303.17896, Sec. 3)."""

from __future__ import annotations

import torch
from torch import Tensor


def pmi(student_logits: Tensor, teacher_logits: Tensor, marginal: Tensor, beta: float) -> Tensor:
    """Logarithm of sum_c (q_s(c|x) q_t(c|x'))^beta / q_t(c): [H, B, C] twice, [H, C] -> [H, B].

    At beta 1 it is the pointwise mutual information of the pair under conditional independence given the
    cluster. Below 1 it rewards using all clusters: at one-hot and equal predictions it is -log q_t(c).

    Args:
        student_logits: Of one image; gradient flows here.
        teacher_logits: Of the other, without gradient; shapes may broadcast between H and C.
        marginal: The teacher's mean assignment, running over steps.
        beta: 0 < beta <= 1.
    """
    log_joint = beta * (student_logits.log_softmax(-1) + teacher_logits.log_softmax(-1))
    shape = (len(marginal), *(1,) * (log_joint.ndim - 2), marginal.shape[-1])
    return torch.logsumexp(log_joint - marginal.clamp(min=1e-8).log().view(shape), dim=-1)


def pair_weights(anchor_logits: Tensor, neighbor_logits: Tensor) -> Tensor:
    """Chance that both images are in one cluster, averaged over the heads: [H, B, C] twice -> [B].

    Small for false neighbors: their pair counts for little.
    """
    return (anchor_logits.softmax(-1) * neighbor_logits.softmax(-1)).sum(-1).mean(0)


def pmi_loss(
    students: tuple[Tensor, Tensor], teachers: tuple[Tensor, Tensor], marginal: Tensor, beta: float
) -> Tensor:
    """Sum over the pairs of -w (pmi(x, x') + pmi(x', x)) / 2, per head -> [H].

    Args:
        students: Logits of anchors and neighbors [H, ..., C], shapes that broadcast.
        teachers: The same of the teacher.
        marginal: [H, C].
        beta: Exponent.
    """
    weights = pair_weights(*teachers)
    both = pmi(students[0], teachers[1], marginal, beta) + pmi(students[1], teachers[0], marginal, beta)
    return -0.5 * (weights * both).flatten(1).sum(-1)
