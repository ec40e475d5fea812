"""Loss and logged terms of every objective, against one image, pair or picture at a time on plain floats."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from rayscan.config import SelaConfig, SelfLabelConfig
from rayscan.nets.heads import ClusterHeads, ProjectedNet
from rayscan.objectives.average import RunningMarginal
from rayscan.objectives.instdisc import InstDisc
from rayscan.objectives.moco import MoCo
from rayscan.objectives.pmi_loss import PmiLoss
from rayscan.objectives.rotnet import RotNet
from rayscan.objectives.scan_loss import ScanLoss
from rayscan.objectives.sela import Sela
from rayscan.objectives.selflabel import SelfLabel
from rayscan.objectives.simclr import SimCLR
from testing.objectives import identity_heads

B, P, N, Q, TAU = 5, 4, 9, 7, 0.3


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def net(out: int = P) -> ProjectedNet:
    torch.manual_seed(0)
    return ProjectedNet(nn.Sequential(nn.Flatten(), nn.Linear(12, 6)), nn.Linear(6, out)).double()


def dot(a: Tensor, b: Tensor) -> float:
    return sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))


def softmax(logits: Tensor) -> list[float]:
    shares = [math.exp(value) for value in logits.tolist()]
    return [share / sum(shares) for share in shares]


def told(terms: Any) -> dict[str, float]:
    """What is logged; all of it without gradient."""
    assert not any(value.requires_grad for value in terms.parts.values())
    return {name: float(value) for name, value in terms.parts.items()}


def test_simclr() -> None:
    """Of 2 B anchors each against the other 2 B - 1 rows; alignment is the mean cosine of the B pairs."""
    objective, x = SimCLR(net(), TAU), draws(2, B, 3, 2, 2)
    z = normalize(objective.module(x.flatten(0, 1)), dim=1).detach()
    loss = 0.0
    for i in range(2 * B):
        others = {j: math.exp(dot(z[i], z[j]) / TAU) for j in range(2 * B) if j != i}
        loss -= math.log(others[(i + B) % (2 * B)] / sum(others.values())) / (2 * B)
    terms = objective.loss({"views": x, "count": B})
    assert float(terms.total.detach()) == pytest.approx(loss)
    alignment = sum(dot(z[i], z[B + i]) for i in range(B)) / B
    assert told(terms) == pytest.approx({"loss": loss, "alignment": alignment})


def test_moco() -> None:
    objective, x = MoCo(net(), TAU, Q, 0.75, P), draws(2, B, 3, 2, 2)
    q = normalize(objective.module(x[0]), dim=1).detach()
    k = normalize(objective.key_encoder(x[1]), dim=1).detach()
    loss = 0.0
    for i in range(B):
        own = math.exp(dot(q[i], k[i]) / TAU)
        loss -= math.log(own / (own + sum(math.exp(dot(q[i], row) / TAU) for row in objective.queue))) / B
    terms = objective.loss({"views": x, "count": B})
    assert float(terms.total.detach()) == pytest.approx(loss)
    assert told(terms) == pytest.approx({"loss": loss, "alignment": sum(map(dot, q, k)) / B})


def test_queue_and_bank_begin_with_unit_rows() -> None:
    for rows, count in (
        (MoCo(net(), TAU, Q, 0.75, P).queue, Q),
        (InstDisc(net(), TAU, N, P, 0.5).bank, N),
    ):
        assert rows.shape == (count, P)
        assert [math.sqrt(dot(row, row)) for row in rows] == pytest.approx([1.0] * count)


def test_instance_discrimination() -> None:
    """h = P / (P + m / N) with P = exp(v f / tau) / Z; Z is N times the mean over the batch's noise."""
    objective, x, m = InstDisc(net(), TAU, N, P, 0.5), draws(1, B, 3, 2, 2), 3
    rows = torch.tensor([8, 2, 5, 0, 3])
    noise = torch.randint(0, N, (B, m), generator=torch.Generator().manual_seed(1))
    f = normalize(objective.module(x[0]), dim=1).detach()
    bank = objective.bank.clone()
    raw = [[math.exp(dot(bank[j], f[i]) / TAU) for j in noise[i]] for i in range(B)]
    z = N * sum(map(sum, raw)) / (B * m)
    loss = 0.0
    for i in range(B):
        own = math.exp(dot(bank[rows[i]], f[i]) / TAU) / z
        loss -= math.log(own / (own + m / N)) / B
        loss -= sum(math.log(1 - e / z / (e / z + m / N)) for e in raw[i]) / B
    terms = objective.loss({"views": x, "rows": rows, "noise": noise, "count": B})
    alignment = sum(dot(f[i], bank[rows[i]]) for i in range(B)) / B
    assert float(terms.total.detach()) == pytest.approx(loss)
    assert told(terms) == pytest.approx({"loss": loss, "alignment": alignment})


def test_rotnet() -> None:
    objective, x = RotNet(net(4)), draws(1, B, 3, 2, 2)
    loss, right = 0.0, 0
    for i in range(B):
        for turn in range(4):
            logits = objective.module(torch.rot90(x[0, i : i + 1], turn, (2, 3)))[0].detach()
            loss -= math.log(softmax(logits)[turn]) / (4 * B)
            right += int(logits.argmax()) == turn
    assert 0 < right < 4 * B
    terms = objective.loss({"views": x, "count": B})
    assert told(terms) == pytest.approx({"loss": loss, "rotation_accuracy": right / (4 * B)})


def test_scan_with_several_neighbors_and_known_shares() -> None:
    """Two heads, three neighbors an anchor: agreement over pairs, minus lambda times what is rewarded."""
    H, K, C, weight = 2, 3, 4, 2.5
    prior = [0.4, 0.3, 0.2, 0.1]
    anchors, neighbors = draws(H, B, C), draws(H, B, K, C, seed=1)
    each, agreements, entropies = [], [], []
    for h in range(H):
        p = [softmax(row) for row in anchors[h]]
        pairs = [(p[b], softmax(neighbors[h, b, k])) for b in range(B) for k in range(K)]
        agreements.append(
            sum(-math.log(sum(x * y for x, y in zip(a, n, strict=True))) for a, n in pairs) / (B * K)
        )
        mean = [sum(column) / B for column in zip(*p, strict=True)]
        entropies.append(-sum(q * math.log(q) for q in mean))
        divergence = sum(q * math.log(q / r) for q, r in zip(mean, prior, strict=True))
        each.append(agreements[-1] + weight * divergence)
    loss = ScanLoss(weight, prior=torch.tensor(prior, dtype=torch.float64))
    terms = loss((anchors.requires_grad_(), neighbors), B)
    assert float(terms.total.detach()) == pytest.approx(sum(each))
    expected = {"loss": sum(each) / H, "consistency": sum(agreements) / H, "entropy": sum(entropies) / H}
    assert told(terms) == pytest.approx(expected)


def test_pmi_with_several_neighbors() -> None:
    """As TEMI's Sec. 3 has it, pair by pair; the first step's running mean is the teacher's own."""
    H, K, C, beta = 2, 3, 4, 0.6
    student = draws(H, B, C), draws(H, B, K, C, seed=1)
    teacher = draws(H, B, C, seed=2), draws(H, B, K, C, seed=3)
    marginal = [
        [sum(c) / B for c in zip(*(softmax(row) for row in teacher[0][h]), strict=True)] for h in range(H)
    ]

    def pmi(s: Tensor, t: Tensor, h: int) -> float:
        joint = zip(softmax(s), softmax(t), marginal[h], strict=True)
        return math.log(sum((a * b) ** beta / m for a, b, m in joint))

    each = [0.0] * H
    for b in range(B):
        for k in range(K):
            together = [
                sum(
                    x * y
                    for x, y in zip(softmax(teacher[0][h, b]), softmax(teacher[1][h, b, k]), strict=True)
                )
                for h in range(H)
            ]
            for h in range(H):
                both = pmi(student[0][h, b], teacher[1][h, b, k], h) + pmi(
                    student[1][h, b, k], teacher[0][h, b], h
                )
                each[h] -= sum(together) / H * both / 2 / (B * K)
    loss = PmiLoss(beta, RunningMarginal(0.9, draws(H, C)), teacher_decay=0.9)
    terms = loss((student[0].requires_grad_(), student[1]), B, teacher)
    assert float(terms.total.detach()) == pytest.approx(sum(each))
    entropy = -sum(m * math.log(m) for row in marginal for m in row) / H
    assert told(terms) == pytest.approx({"loss": sum(each) / H, "entropy": entropy})


def test_sela() -> None:
    x = draws(20, 8)
    labels = torch.randint(0, 3, (2, 20), generator=torch.Generator().manual_seed(4))
    torch.manual_seed(0)
    heads = ClusterHeads(2, 8, 3).double()
    objective = Sela(heads, SelaConfig(num_relabelings=0), labels, lambda _: x, lambda _: torch.zeros(2), 1)
    rows = torch.tensor([4, 9, 17, 3])
    logits = objective.module(x[rows]).detach()
    loss, right = 0.0, 0
    for h in range(2):
        for b, row in enumerate(rows):
            loss -= math.log(softmax(logits[h, b])[int(labels[h, row])]) / 8
            right += int(logits[h, b].argmax()) == int(labels[h, row])
    assert 0 < right < 8
    terms = objective.loss({"images": x[rows], "rows": rows, "count": 4})
    assert told(terms) == pytest.approx({"loss": loss, "label_accuracy": right / 8})


@pytest.mark.parametrize("is_balanced", [True, False])
def test_self_labelling(is_balanced: bool) -> None:
    """Weak views 0, 0, 0 and 1 are sure, the last is not: CE of the strong ones, weighted by cluster."""
    weak = torch.tensor([[0.9, 0.05, 0.05]] * 3 + [[0.05, 0.9, 0.05], [0.4, 0.3, 0.3]], dtype=torch.float64)
    strong = draws(5, 3)
    settings = SelfLabelConfig(threshold=0.8, class_balance=is_balanced)
    objective = SelfLabel(identity_heads(3), settings, 5)
    weights = [4 / (3 * 2)] * 3 + [4 / (1 * 2)] if is_balanced else [1.0] * 4
    labels = [0, 0, 0, 1]
    surprise = [-math.log(softmax(row)[y]) for row, y in zip(strong, labels, strict=False)]
    loss = sum(w * s for w, s in zip(weights, surprise, strict=True)) / 4
    terms = objective.loss({"weak": weak.log(), "strong": strong, "count": 5})
    assert float(terms.total.detach()) == pytest.approx(loss)
    assert told(terms) == pytest.approx({"loss": loss, "confident_fraction": 4 / 5})
