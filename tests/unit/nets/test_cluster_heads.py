"""Heads side by side are as many linear layers."""

from __future__ import annotations

import torch
from torch import nn

from rayscan.nets.heads import ClusterHeads


def test_logits_and_gradients_are_those_of_single_linear_layers() -> None:
    torch.manual_seed(0)
    heads, rows = ClusterHeads(3, 7, 4).double(), torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(3, 5, 4, dtype=torch.float64)
    logits = heads(rows)
    assert logits.shape == (3, 5, 4)
    (logits * weights).sum().backward()
    assert rows.grad is not None
    assert heads.weight.grad is not None
    assert heads.bias.grad is not None
    of_rows = torch.zeros_like(rows)
    for number in range(3):
        layer, own = nn.Linear(7, 4).double(), rows.detach().requires_grad_()
        with torch.no_grad():
            layer.weight.copy_(heads.weight[number])
            layer.bias.copy_(heads.bias[number])
        alone = layer(own)
        torch.testing.assert_close(logits[number], alone, rtol=0, atol=1e-12)
        (alone * weights[number]).sum().backward()
        torch.testing.assert_close(heads.weight.grad[number], layer.weight.grad, rtol=0, atol=1e-12)
        torch.testing.assert_close(heads.bias.grad[number], layer.bias.grad, rtol=0, atol=1e-12)
        assert own.grad is not None
        of_rows += own.grad
    torch.testing.assert_close(rows.grad, of_rows, rtol=0, atol=1e-12)
