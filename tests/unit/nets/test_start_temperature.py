"""A temperature folded into the weights that heads start from is the temperature in the loss."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from rayscan.config import PmiLossConfig, ScanLossConfig
from rayscan.nets.heads import ClusterHeads

T, RATE, STEPS = 0.1, 1e-3, 20


def heads(temperature: float) -> ClusterHeads:
    torch.manual_seed(0)
    return ClusterHeads(2, 8, 3, temperature=temperature).double()


def trained(net: ClusterHeads, rate: float, scale: float) -> torch.Tensor:
    """Logits after some steps of Adam on the cross-entropy of scaled logits."""
    drawn = torch.Generator().manual_seed(1)
    x = functional.normalize(torch.randn(30, 8, dtype=torch.float64, generator=drawn), dim=1)
    labels = torch.arange(30) % 3
    optimizer = torch.optim.Adam(net.parameters(), lr=rate, eps=1e-20)
    for _ in range(STEPS):
        optimizer.zero_grad()
        functional.cross_entropy((scale * net(x)).flatten(0, 1), labels.repeat(2)).backward()
        optimizer.step()
    return scale * net(x).detach()


def test_folded_equals_divided_logits() -> None:
    divided, folded = trained(heads(1.0), RATE, 1 / T), trained(heads(T), RATE / T, 1.0)
    torch.testing.assert_close(folded, divided, rtol=1e-5, atol=1e-6)


def test_pmi_alone_starts_so() -> None:
    assert PmiLossConfig().start_temperature == pytest.approx(0.1)
    assert PmiLossConfig(pmi_temperature=0.5).start_temperature == pytest.approx(0.5)
    assert ScanLossConfig().start_temperature == 1.0
