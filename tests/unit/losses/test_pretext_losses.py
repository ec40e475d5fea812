"""Pretext losses against slow twins written from the papers' equations, and against another library."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from rayscan.losses.info_nce import info_nce
from rayscan.losses.nce import instance_nce
from rayscan.losses.nt_xent import nt_xent
from rayscan.losses.regression import unit_distance


def rows(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def unit_rows(seed: int, *shape: int) -> Tensor:
    return normalize(rows(seed, *shape), dim=-1)


def naive_info_nce(q: np.ndarray, k: np.ndarray, queue: np.ndarray, temperature: float) -> float:
    """MoCo Eq. 1, one query at a time."""
    total = 0.0
    for query, key in zip(q, k, strict=True):
        up = math.exp(query @ key / temperature)
        total -= math.log(up / (up + sum(math.exp(query @ old / temperature) for old in queue)))
    return total


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
def test_info_nce_equals_naive(temperature: float) -> None:
    q, k, queue = unit_rows(0, 5, 4), unit_rows(1, 5, 4), unit_rows(2, 9, 4)
    naive = naive_info_nce(q.numpy(), k.numpy(), queue.numpy(), temperature)
    assert float(info_nce(q, k, queue, temperature)) == pytest.approx(naive, rel=1e-12)


def test_info_nce_of_equal_rows_is_log_of_the_rows() -> None:
    one = normalize(torch.ones(1, 3, dtype=torch.float64), dim=1)
    loss = info_nce(one.expand(4, 3), one.expand(4, 3), one.expand(7, 3), 0.5)
    assert float(loss) == pytest.approx(4 * math.log(8))


def naive_nce(
    f: np.ndarray, bank: np.ndarray, own: list[int], noise: np.ndarray, z: float, tau: float
) -> float:
    """Instance discrimination, Eq. 4 to 7, one image and one noise row at a time."""
    n, m = len(bank), noise.shape[1]

    def h(row: int, feature: np.ndarray) -> float:
        p = math.exp(bank[row] @ feature / tau) / z
        return p / (p + m / n)

    total = 0.0
    for i, feature in enumerate(f):
        total -= math.log(h(own[i], feature))
        total -= sum(math.log(1 - h(j, feature)) for j in noise[i])
    return total


def test_instance_nce_equals_naive() -> None:
    f, bank, tau, z = unit_rows(3, 4, 5), unit_rows(4, 11, 5), 0.3, 17.0
    own, noise = [3, 0, 10, 7], np.random.default_rng(0).integers(0, 11, (4, 6))
    positives = (f * bank[own]).sum(1) / tau
    others = torch.einsum("nd,nmd->nm", f, bank[torch.from_numpy(noise)]) / tau
    ours = instance_nce(positives, others, torch.tensor(math.log(z), dtype=torch.float64), len(bank))
    naive = naive_nce(f.numpy(), bank.numpy(), own, noise, z, tau)
    assert float(ours) == pytest.approx(naive, rel=1e-12)


def test_instance_nce_is_finite_where_a_probability_vanishes() -> None:
    scores = torch.tensor([-200.0], requires_grad=True)
    loss = instance_nce(scores, torch.tensor([[200.0, -200.0]]), torch.tensor(0.0), 100)
    loss.backward()
    assert torch.isfinite(loss)
    assert scores.grad is not None
    assert float(scores.grad) == pytest.approx(-1.0)  # d(-log h)/ds = h - 1


def test_unit_distance_equals_naive() -> None:
    q, z = rows(5, 6, 3), rows(6, 6, 3)
    naive = sum(
        float(np.square(a / np.linalg.norm(a) - b / np.linalg.norm(b)).sum())
        for a, b in zip(q.numpy(), z.numpy(), strict=True)
    )
    assert float(unit_distance(q, z)) == pytest.approx(naive, rel=1e-12)


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: info_nce(normalize(x, dim=1), unit_rows(8, 4, 3), unit_rows(9, 5, 3), 0.4),
        lambda x: unit_distance(x, rows(8, 4, 3)),
        lambda x: instance_nce(x[:, 0], x[:, 1:], torch.tensor(0.7, dtype=torch.float64), 9),
    ],
    ids=["info_nce", "unit_distance", "instance_nce"],
)
def test_gradients(loss: object) -> None:
    x = rows(7, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(loss, (x,))  # type: ignore[arg-type]


class TestParityWithLightly:
    """The same values and gradients as lightly's losses, which divide by rows where ours are sums."""

    @pytest.fixture(autouse=True)
    def _lightly(self) -> None:
        pytest.importorskip("lightly", reason="lightly is not installed")

    @staticmethod
    def same(ours: Tensor, theirs: Tensor, leaves: list[Tensor]) -> None:
        assert float(ours) == pytest.approx(float(theirs), rel=1e-9)
        mine = torch.autograd.grad(ours, leaves, retain_graph=True)
        other = torch.autograd.grad(theirs, leaves)
        for a, b in zip(mine, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
            assert a.abs().max() > 1e-3

    def test_nt_xent(self) -> None:
        from lightly.loss import NTXentLoss

        a, b = rows(10, 6, 5).requires_grad_(), rows(11, 6, 5).requires_grad_()
        z, index = normalize(torch.cat([a, b]), dim=1), torch.arange(12)
        ours = nt_xent(z, z, index, (index + 6) % 12, 0.3) / 12
        self.same(ours, NTXentLoss(temperature=0.3)(a, b), [a, b])

    def test_info_nce(self) -> None:
        from lightly.loss import NTXentLoss

        q, k, queue = rows(12, 6, 5).requires_grad_(), rows(13, 6, 5), unit_rows(14, 8, 5)
        theirs = NTXentLoss(temperature=0.2, memory_bank_size=(8, 5)).double()
        theirs.memory_bank.bank = queue.clone()
        ours = info_nce(normalize(q, dim=1), normalize(k, dim=1), queue, 0.2) / 6
        self.same(ours, theirs(q, k), [q])

    def test_byol(self) -> None:
        from lightly.loss import NegativeCosineSimilarity

        p, z = rows(15, 6, 5).requires_grad_(), rows(16, 6, 5)
        self.same(unit_distance(p, z) / 6, 2 + 2 * NegativeCosineSimilarity()(p, z), [p])
