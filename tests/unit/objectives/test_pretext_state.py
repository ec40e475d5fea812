"""What pretext objectives remember: queue, bank, slow copies; and how they come back from a checkpoint."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from rayscan.nets.heads import NormalizedHead, ProjectedNet
from rayscan.objectives.byol import BYOL, PredictedNet
from rayscan.objectives.instdisc import InstDisc
from rayscan.objectives.moco import MoCo
from rayscan.objectives.pretext import PretextObjective
from rayscan.objectives.rotnet import RotNet, rotations

B, P, N, Q = 5, 4, 9, 7


def net(out: int = P) -> ProjectedNet:
    torch.manual_seed(0)
    return ProjectedNet(nn.Sequential(nn.Flatten(), nn.Linear(12, 6)), nn.Linear(6, out)).double()


def views(seed: int, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, B, 3, 2, 2, dtype=torch.float64, generator=generator)


def batch(seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(100 + seed)
    rows = torch.randperm(N, generator=generator)[:B]
    noise = torch.randint(0, N, (B, 3), generator=generator)
    return {"views": views(seed), "rows": rows, "noise": noise, "count": B}


def step(objective: PretextObjective, seed: int) -> float:
    optimizer = torch.optim.SGD(objective.module.parameters(), lr=0.1)
    terms = objective.loss(batch(seed))
    terms.total.backward()
    optimizer.step()
    optimizer.zero_grad()
    objective.after_step()
    return float(terms.total.detach())


def moco() -> MoCo:
    return MoCo(net(), 0.3, queue_size=Q, momentum=0.75, dim=P)


def instdisc() -> InstDisc:
    return InstDisc(net(), 0.3, num_images=N, dim=P, momentum=0.5)


def byol() -> BYOL:
    torch.manual_seed(1)
    return BYOL(PredictedNet(net(), NormalizedHead(P, 6, P)).double(), momentum=0.8, total_steps=4)


def rotnet() -> RotNet:
    return RotNet(net(4))


def test_queue_replaces_its_oldest_keys_and_wraps_around() -> None:
    """Against a list to which keys are appended and from which the first are dropped."""
    objective = moco()
    expected = list(objective.queue)
    for seed in range(4):
        keys = normalize(objective.key_encoder(views(seed)[1]), dim=1)
        step(objective, seed)
        expected = (expected + list(keys))[-Q:]
    order = (int(objective.start) + torch.arange(Q)) % Q  # oldest first
    torch.testing.assert_close(objective.queue[order], torch.stack(expected))


def test_a_batch_larger_than_the_queue_leaves_its_last_keys() -> None:
    objective = MoCo(net(), 0.3, queue_size=3, momentum=0.75, dim=P)
    keys = normalize(objective.key_encoder(views(0)[1]), dim=1)
    step(objective, 0)
    order = (int(objective.start) + torch.arange(3)) % 3
    torch.testing.assert_close(objective.queue[order], keys[-3:])


def test_key_encoder_follows_slowly_and_takes_no_gradient() -> None:
    objective = moco()
    before = {k: v.clone() for k, v in objective.key_encoder.named_parameters()}
    step(objective, 0)
    student = dict(objective.module.named_parameters())
    for key, value in objective.key_encoder.named_parameters():
        torch.testing.assert_close(value, 0.75 * before[key] + 0.25 * student[key].detach())
        assert value.grad is None


def test_bank_rows_move_halfway_to_the_features_of_their_image() -> None:
    objective = instdisc()
    seen = batch(0)
    before = objective.bank.clone()
    features = normalize(objective.module(seen["views"][0]), dim=1).detach()
    step(objective, 0)
    expected = before.clone()
    expected[seen["rows"]] = normalize(0.5 * before[seen["rows"]] + 0.5 * features, dim=1)
    torch.testing.assert_close(objective.bank, expected)


def test_z_is_the_mean_over_the_first_batch_and_constant_afterwards() -> None:
    """Eq. 6 and 7: Z = N / (B m) sum of exp(v_j f_i / tau)."""
    objective = instdisc()
    seen = batch(0)
    features = normalize(objective.module(seen["views"][0]), dim=1)
    scores = [objective.bank[j] @ features[i] / 0.3 for i in range(B) for j in seen["noise"][i]]
    z = N * float(torch.stack(scores).exp().mean())
    step(objective, 0)
    assert float(objective.log_z.exp()) == pytest.approx(z)
    step(objective, 1)
    assert float(objective.log_z.exp()) == pytest.approx(z)


def test_both_ways_to_score_noise_agree() -> None:
    objective = instdisc()
    features, noise = normalize(torch.randn(B, P, dtype=torch.float64), dim=1), batch(0)["noise"]
    few = objective._scores(features, noise[:, :1])  # N > m P: rows are fetched
    many = objective._scores(features, noise)  # N <= m P: all rows are scored
    torch.testing.assert_close(few, many[:, :1])


def test_target_momentum_rises_to_one_along_a_cosine() -> None:
    """BYOL, Sec. 3.1 of its appendix: at k = 0 tau_0, at K / 2 halfway, at K one."""
    objective = byol()
    rests = []
    for seed in range(5):
        before = [p.clone() for p in objective.target.parameters()]
        step(objective, seed)
        student = [p.detach() for p in objective.encoder.parameters()]
        moved = (next(objective.target.parameters()) - before[0]).norm()
        rests.append(float(moved / (student[0] - before[0]).norm()))
    assert rests == pytest.approx([0.2, 0.1 * (1 + 0.5**0.5), 0.1, 0.1 * (1 - 0.5**0.5), 0.0], abs=1e-9)


def test_byol_loss_compares_each_view_with_the_target_of_the_other() -> None:
    objective = byol()
    x = views(0)
    predicted = objective.module(x.flatten(0, 1)).chunk(2)
    targets = objective.target(x.flatten(0, 1)).chunk(2)
    cosine = torch.nn.functional.cosine_similarity
    naive = sum((2 - 2 * cosine(predicted[i], targets[1 - i])).mean() for i in (0, 1))
    terms = objective.loss({"views": x, "count": B})
    assert float(terms.total) == pytest.approx(float(naive))
    both = torch.cat([cosine(predicted[i], targets[1 - i]) for i in (0, 1)])
    assert float(terms.parts["alignment"]) == pytest.approx(float(both.mean()))


def test_rotations_are_quarter_turns() -> None:
    picture = torch.arange(12.0).reshape(1, 3, 2, 2)
    turned = rotations(picture)
    assert turned.shape == (4, 3, 2, 2)
    assert turned[:, 0].tolist() == [[[0, 1], [2, 3]], [[1, 3], [0, 2]], [[3, 2], [1, 0]], [[2, 0], [3, 1]]]


def test_rotnet_loss_is_the_mean_over_pictures_and_turns() -> None:
    objective = rotnet()
    x = views(0)[:1]
    naive = 0.0
    for i in range(B):
        for turn in range(4):
            logits = objective.module(torch.rot90(x[0, i : i + 1], turn, (2, 3)))
            naive -= float(logits.log_softmax(1)[0, turn]) / (4 * B)
    assert float(objective.loss({"views": x, "count": B}).total) == pytest.approx(naive)


@pytest.mark.parametrize("build", [moco, instdisc, byol, rotnet])
def test_state_comes_back(build: Any) -> None:
    """Two steps, save, two more; a fresh objective that takes the state back does the same two."""
    objective = build()
    for seed in (0, 1):
        step(objective, seed)
    saved = {k: v.clone() for k, v in objective.state_dict().items()}
    expected = [step(objective, seed) for seed in (2, 3)]
    again = build()
    again.load_state_dict(saved)
    assert [step(again, seed) for seed in (2, 3)] == expected
    for key, value in objective.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
