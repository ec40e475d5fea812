"""PairLoss: a loss over anchors and their neighbors, with the state it keeps."""

from __future__ import annotations

from typing import Any, Self

from torch import Tensor, nn

from rayscan.objectives.base import LossTerms

Pair = tuple[Tensor, Tensor]
"""Logits of anchors [H, B, C] and of their neighbors [H, B, K, C]; K is 1 where one is drawn per step."""


class PairLoss(nn.Module):
    """This worker's share of a loss over pairs, summed over heads so that each learns as if it were alone."""

    def __init__(self, teacher_decay: float | None = None) -> None:
        """Set up.

        Args:
            teacher_decay: Per step, of an averaged copy of the net whose logits the loss wants beside the
                student's; None wants none.
        """
        super().__init__()
        self.teacher_decay = teacher_decay

    @classmethod
    def build(cls, settings: Any, like: Tensor, prior: Tensor | None) -> Self:
        """The loss that a `scan` section sets.

        Args:
            settings: The section, of the class that goes with this loss.
            like: [H, C]: shape, dtype and device of a mean assignment.
            prior: Known share of each cluster [C].
        """
        raise TypeError(f"{cls.__name__} cannot be built from settings")

    def forward(self, students: Pair, count: int, teachers: Pair | None = None) -> LossTerms:
        """This worker's share of the loss.

        Args:
            students: Logits with gradient.
            count: Anchors of the global batch.
            teachers: Logits of the averaged copy, where `teacher_decay` asks for one.
        """
        raise TypeError(f"{type(self).__name__} has no loss")
