"""What self-labelling counts over an epoch, when it stops, and what a checkpoint gives back of it."""

from __future__ import annotations

import pytest
import torch

from rayscan.config import SelfLabelConfig
from rayscan.objectives.selflabel import SelfLabel
from testing.objectives import identity_heads


def sure_of(*clusters: int, unsure: int = 0) -> dict[str, object]:
    """A batch of images at 0.98 in these clusters each, and some at a third in all."""
    rows = [[0.98 if c == cluster else 0.01 for c in range(3)] for cluster in clusters]
    logits = torch.tensor(rows + [[1 / 3] * 3] * unsure, dtype=torch.float64).log()
    return {"weak": logits, "strong": logits, "count": len(logits)}


def epoch_of(objective: SelfLabel, number: int, *batches: dict[str, object]) -> tuple[float, bool]:
    for batch in batches:
        objective.loss(batch)
    end = objective.end_epoch(number, is_last=False)
    return end.metrics["confident"], end.should_stop


def test_confident_images_are_counted_over_all_batches_of_an_epoch() -> None:
    objective = SelfLabel(identity_heads(3), SelfLabelConfig(threshold=0.9), 10)
    first = epoch_of(objective, 0, sure_of(0, 1, unsure=2), sure_of(2, unsure=1), sure_of(1, 1))
    assert first == (5.0, False)
    assert epoch_of(objective, 1, sure_of(0, unsure=1)) == (1.0, False)


@pytest.mark.parametrize(
    ("counts", "num_images", "stops_at"),
    [
        ([3, 3, 3, 3], 10, 2),  # two epochs without one more than the best before
        ([0, 0, 0], 10, 2),  # none at all: not before the plateau's epochs are over
        ([1, 2, 3, 4, 5], 10, None),
        ([3, 1, 4, 4, 4, 5], 10, 4),  # epochs 3 and 4 add nothing to the 4 of epoch 2
        ([5, 6, 7, 7, 8], 2000, 2),  # more by 0.1 % of the images, which is 2 of them: 7 counts, 8 does not
        ([5, 6, 7, 8, 10, 10], 3000, 2),
    ],
)
def test_it_stops_where_the_count_has_not_grown_for_the_epochs_of_the_plateau(
    counts: list[int], num_images: int, stops_at: int | None
) -> None:
    objective = SelfLabel(identity_heads(3), SelfLabelConfig(threshold=0.9, plateau_epochs=2), num_images)
    stopped = [
        epoch_of(objective, number, sure_of(*[0] * count, unsure=1))[1] for number, count in enumerate(counts)
    ]
    expected = []
    for end in range(1, len(counts) + 1):
        before, since = counts[: max(0, end - 2)], counts[max(0, end - 2) : end]
        expected.append(end > 2 and max(since) < max(before) + max(1, num_images // 1000))
    assert stopped == expected
    if stops_at is None:
        assert True not in stopped
    elif num_images == 10:
        assert stopped.index(True) == stops_at


def per_class() -> SelfLabel:
    settings = SelfLabelConfig(threshold=0.9, threshold_kind="per_class", threshold_floor=0.2)
    return SelfLabel(identity_heads(3), settings, num_images=12)


HALVES = (sure_of(0, 0, 0, 1), sure_of(0, 0, 1, 2, unsure=1))
"""In all five images of cluster 0, two of 1, one of 2."""
NEAR = torch.tensor([[0.8, 0.1, 0.1], [0.3, 0.4, 0.3], [0.35, 0.35, 0.3]], dtype=torch.float64).log()


def shares_above(objective: SelfLabel) -> float:
    terms = objective.loss({"weak": NEAR, "strong": NEAR, "count": 3})
    return float(terms.parts["confident_fraction"])


def test_thresholds_are_of_the_last_epoch_whole() -> None:
    """b = 5/5, 2/5, 1/5, 8 of 12 are sure; T = 0.9 b / (2 - b): 0.9, 0.225, 0.1 and so the floor of 0.2."""
    objective = per_class()
    epoch_of(objective, 0, *HALVES)
    assert shares_above(objective) == pytest.approx(1 / 3)  # 0.4 > 0.225; 0.8 and 0.35 are below 0.9
    epoch_of(objective, 1, sure_of(0, 1, 2))  # 3 and the none of NEAR: each 1 / max(1, 9), T = 0.9 / 17
    assert shares_above(objective) == 1.0


@pytest.mark.parametrize("after", [1, 2])
def test_counts_of_a_running_epoch_come_back(after: int) -> None:
    """Cut in the second epoch: the first one's thresholds hold, and what was counted counts."""
    whole, cut, again = per_class(), per_class(), per_class()
    for objective in (whole, cut):
        epoch_of(objective, 0, *HALVES)
        for batch in HALVES[:after]:
            objective.loss(batch)
            objective.after_step()
    again.load_state_dict({k: v.clone() for k, v in cut.state_dict().items()})
    assert shares_above(again) == shares_above(whole) == pytest.approx(1 / 3)
    ends = [objective.end_epoch(1, is_last=False) for objective in (whole, again)]
    assert ends[0] == ends[1]
    assert ends[0].metrics["confident"] == (5 if after == 1 else 9)  # 4, 4 more, and the one of NEAR
    # of both halves b is 5/5, 2/5, 1/5 again, so 0.5 of cluster 0 is below; of the first half alone above
    half = torch.tensor([[0.5, 0.25, 0.25]], dtype=torch.float64).log()
    for objective in (whole, again):
        terms = objective.loss({"weak": half, "strong": half, "count": 1})
        assert float(terms.parts["confident_fraction"]) == (1.0 if after == 1 else 0.0)


def test_the_average_of_a_checkpoint_goes_on_at_its_step() -> None:
    """Two steps, restored, a third: the decay is min(0.9, (1 + t) / (10 + t)) at t = 3, not at t = 1."""
    one, again = (SelfLabel(identity_heads(3), SelfLabelConfig(ema_decay=0.9), 4) for _ in range(2))
    for _ in range(2):
        with torch.no_grad():
            one.module.bias.add_(1.0)
        one.after_step()
    again.load_state_dict({k: v.clone() for k, v in one.state_dict().items()})
    value = again.average.bias.clone()
    assert value.equal(one.average.bias)
    assert again.moving_average.steps.value == 2
    with torch.no_grad():
        again.module.bias.add_(1.0)
    again.after_step()
    decay = 4 / 13
    expected = decay * value + (1 - decay) * again.module.bias.detach()
    torch.testing.assert_close(again.average.bias, expected)
