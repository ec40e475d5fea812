"""How much of the classes is in the features: weighted kNN and a linear classifier, trained with labels.

Comes from embeddings and labels, goes to `stages.baseline`. For comparison with other features only: no
stage that clusters sees a label.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor

from rayscan.processor import blas_threads

QUERIES_AT_ONCE = 1_024
LINEAR_EPOCHS, LINEAR_BATCH = 36, 128
LINEAR_DROPS = (5, 15, 25)
MOMENTUM = np.float32(0.9)
LARGE_PRODUCT = 1 << 25
"""Multiplications of a step from which several threads take them."""


def weighted_knn(
    features: Tensor,
    labels: Tensor,
    queries: Tensor,
    neighbors: Sequence[int],
    *,
    num_classes: int,
    temperature: float = 0.1,
) -> dict[int, Tensor]:
    """Vote of the nearest train rows, each with weight exp(cos / sigma) (arXiv 1805.01978, Sec. 3.4).

    Args:
        features: Train rows, unit [n, D].
        labels: Their classes, int64 [n].
        queries: Rows to classify, unit [q, D].
        neighbors: Numbers of voters (k); one above n means all.
        num_classes: L.
        temperature: sigma.

    Returns:
        k -> predicted classes, int64 [q].
    """
    asked = sorted({min(k, len(features)) for k in neighbors})
    predicted: dict[int, list[Tensor]] = {k: [] for k in asked}
    for block in queries.split(QUERIES_AT_ONCE):
        cosines, rows = (block @ features.T).topk(asked[-1], dim=1)
        weights = (cosines / temperature).exp()
        for k in asked:
            votes = weights.new_zeros(len(block), num_classes)
            votes.scatter_add_(1, labels[rows[:, :k]], weights[:, :k])
            predicted[k].append(votes.argmax(1))
    return {k: torch.cat(predicted[min(k, len(features))]) for k in neighbors}


def linear_probe(
    features: Tensor,
    labels: Tensor,
    queries: Tensor,
    *,
    num_classes: int,
    seed: int,
    learning_rate: float = 0.01,
) -> Tensor:
    """Predictions of a linear classifier trained by the protocol of SeLa (arXiv 1911.05371, appendix A.1).

    SGD with momentum 0.9, 36 epochs, batch 128, learning rate 0.01 divided by five at epochs 5, 15 and 25.
    Deviation: on stored features of the plain images, not on fresh crops. They are centered and scaled by one
    number, so that a component has variance 1 on average: stored rows have unit length, for which this
    learning rate would be far too small. Below 12,800 train rows batches shrink, to 16 at least, so that an
    epoch still has about a hundred steps.

    Args:
        features: Train rows [n, D].
        labels: Their classes, int64 [n].
        queries: Rows to classify [q, D].
        num_classes: L.
        seed: Of weights and order.
        learning_rate: At the beginning.

    Returns:
        Classes, int64 [q].
    """
    mean = features.mean(0)
    deviation = features.var(0).mean().sqrt().clamp(min=1e-6)
    train, test = (features - mean) / deviation, (queries - mean) / deviation
    generator = torch.Generator().manual_seed(seed)
    rows, asked = (np.pad(x.numpy(), ((0, 0), (0, 1)), constant_values=1) for x in (train, test))
    weight = np.zeros((num_classes, rows.shape[1]), np.float32)  # the last column is the bias
    weight[:, :-1] = torch.randn(num_classes, train.shape[1], generator=generator).numpy() * 0.01
    speed, classes = np.zeros_like(weight), labels.numpy()
    batch_size = min(LINEAR_BATCH, max(16, len(train) // 100))
    threads = 1 if batch_size * weight.size < LARGE_PRODUCT else torch.get_num_threads()
    with blas_threads(threads):
        for epoch in range(LINEAR_EPOCHS):
            rate = np.float32(learning_rate / 5 ** sum(epoch >= drop for drop in LINEAR_DROPS))
            order = torch.randperm(len(train), generator=generator).numpy()
            for first in range(0, len(order), batch_size):
                batch = order[first : first + batch_size]
                gradient = softmax(rows[batch] @ weight.T, axis=1)
                gradient[np.arange(len(batch)), classes[batch]] -= 1
                speed = MOMENTUM * speed + gradient.T @ rows[batch] / np.float32(len(batch))
                weight -= rate * speed
    return torch.from_numpy((asked @ weight.T).argmax(axis=1))
