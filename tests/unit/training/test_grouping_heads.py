"""Heads from groupings: rules of the whitened space on the features themselves, starts and votes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from rayscan.artifacts import Step
from rayscan.config import ConsensusConfig
from rayscan.consensus.cluster import consensus
from rayscan.consensus.discriminant import discriminant_rule
from rayscan.consensus.whitening import total_scatter
from rayscan.context import Sources
from rayscan.nets.heads import ClusterHeads
from rayscan.recipes import by_name
from rayscan.stages import scan, whitened_rows
from rayscan.storage import Place
from rayscan.training import whitened
from rayscan.training.grouping_heads import (
    heads_of_groupings,
    start_from_consensus,
    start_from_groupings,
    voted_head,
)
from rayscan.training.whitened import SampledSpace, sampled_space
from rayscan.vectors.parts import EmbeddingRows
from testing.matrices import embedded, unit

GROUPS = np.random.default_rng(5).integers(0, 4, 400)


def rows() -> np.ndarray:
    """Four groups of unit rows in 16 dimensions; one direction varies more than they differ."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4, 16))[GROUPS] + 0.3 * rng.normal(size=(400, 16))
    x[:, 0] = 2.5 * rng.normal(size=400)
    return unit(x)


@pytest.fixture
def sampled(tmp_path: Path) -> SampledSpace:
    return sampled_space(embedded(Place(str(tmp_path)), rows()))


def agreeing(clusters: np.ndarray) -> float:
    """Share of the images in the most frequent group of their cluster."""
    return sum(np.bincount(GROUPS[clusters == c], minlength=4).max() for c in range(4)) / 400


def test_a_rule_on_features_says_what_it_said_on_whitened_rows(sampled: SampledSpace) -> None:
    space = sampled.space
    total = total_scatter(space.twice) / len(space.twice)
    rule = discriminant_rule(space.twice, total, GROUPS, 4)
    weight, bias = heads_of_groupings(space, [GROUPS, 3 - GROUPS], 4, softness=0.5)
    got = torch.from_numpy(rows()) @ weight[0].T + bias[0]
    assert got.numpy() == pytest.approx(0.5 * rule.outputs(space.twice), abs=1e-3)
    assert weight[1].numpy() == pytest.approx(weight[0].flip(0).numpy(), abs=1e-4)


def test_heads_start_from_groupings_each_from_its_own(sampled: SampledSpace) -> None:
    torch.manual_seed(0)
    heads, other = ClusterHeads(6, 16, 4), ClusterHeads(6, 16, 4)
    random = [agreeing(c) for c in heads(torch.from_numpy(rows())).argmax(-1).numpy()]
    start_from_groupings(heads, sampled, seed=3)
    start_from_groupings(other, sampled, seed=3)
    assert torch.equal(heads.weight, other.weight)
    clusters = heads(torch.from_numpy(rows())).argmax(-1).numpy()
    assert max(agreeing(c) for c in clusters) > 0.95 > max(random)
    assert len({c.tobytes() for c in clusters}) > 1


def test_the_voted_head_is_what_most_heads_say_under_other_numbers(sampled: SampledSpace) -> None:
    rng = np.random.default_rng(2)

    def spoilt(share: float) -> np.ndarray:
        return np.where(rng.random(400) < share, rng.integers(0, 4, 400), rng.permutation(4)[GROUPS])

    groupings = np.stack([*(spoilt(0.1) for _ in range(5)), np.zeros(400, int), rng.integers(0, 4, 400)])
    state, facts = voted_head(sampled, groupings, 4, seed=0)
    head = ClusterHeads(1, 16, 4)
    head.load_state_dict(state)
    clusters = head(torch.from_numpy(rows()))[0].argmax(-1).numpy()
    assert agreeing(clusters) > max(agreeing(g) for g in groupings)
    assert facts["voters"] <= 5, "what collapsed and what is random has no weight"
    assert facts["score"] >= facts["best_score"]


def test_whitened_rows_are_those_of_the_space_train_and_eval(tmp_path: Path) -> None:
    x, place = rows(), Place(str(tmp_path))
    embed = embedded(place, x, rows_per_part=150, num_eval=100)
    step = whitened_rows.plan(embed)
    made = whitened_rows.write(whitened_rows.Task(embed, whitened_rows.Draft(place, step)))
    got, space = EmbeddingRows(made), sampled_space(embed).space
    assert (got.train_rows, got.dim) == (300, space.projection.shape[1])
    expected = (x - x[:300].mean(axis=0)) @ (space.components @ space.projection)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert got.read(0, 400) == pytest.approx(expected, abs=1e-4)
    assert got.gids.tolist() == EmbeddingRows(embed).gids.tolist()


def test_neighbors_mined_in_a_whitened_space_are_not_taken_for_those_of_the_features(tmp_path: Path) -> None:
    """Whitening by them would be a third round."""
    from tests.unit.search.test_judged_space import mined

    place, x = Place(str(tmp_path)), rows()
    embed, mine = embedded(place, x), mined(place, rows()[:, ::-1] ** 3, 12)
    plain = sampled_space(embed).space.ids
    assert (sampled_space(embed, mine).space.ids != plain).any()
    told = whitened_rows.Draft(place, whitened_rows.Step("mine", 2, {}))
    files = {name: told.write_table(name, mine.read_table(name)) for name in mine.files}
    space = sampled_space(embed, told.commit(files, facts={"space": whitened.WHITENED})).space
    assert (space.ids == plain).all()


@pytest.mark.parametrize("sizes", ["auto", "uneven"])
def test_heads_start_from_what_the_consensus_is_and_who_voted_for_it(
    sampled: SampledSpace, sizes: Literal["auto", "uneven"]
) -> None:
    heads = ClusterHeads(4, 16, 4)
    start_from_consensus(heads, sampled, seed=3, sizes=sizes)
    clusters = heads(torch.from_numpy(rows())).argmax(-1).numpy()
    found = consensus(rows(), 4, 3, sizes=sizes)
    assert found.is_uneven == (sizes == "uneven")
    for head, grouping in zip(clusters, (found.labels, *found.groupings), strict=False):
        assert np.mean(head == grouping) > 0.99, "the rule of a grouping gives it again, in its own numbers"
    assert agreeing(clusters[0]) > 0.99


def test_heads_are_made_again_for_other_sizes_where_they_start_from_the_consensus() -> None:
    def plan(start: Literal["random", "consensus"], sizes: Literal["auto", "uneven"]) -> Step:
        recipe = by_name("custom")
        settings = {"scan": replace(recipe.scan, start=start), "consensus": ConsensusConfig(sizes=sizes)}
        return scan.plan(replace(recipe, num_clusters=4, **settings), {}, Sources("x"))

    assert plan("consensus", "auto") != plan("consensus", "uneven")
    assert plan("random", "auto") == plan("random", "uneven")
