"""Chosen neighbors against the plain definition, and the choice as a file and as those who read it see it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from sklearn.datasets import load_digits

from rayscan.artifacts import Artifact, Draft, Step
from rayscan.config import MineConfig
from rayscan.errors import ConfigError
from rayscan.metrics.purity import neighbor_purity
from rayscan.sections import semantic
from rayscan.stages.chosen import Lists, neighbor_ids, rule_of, write_chosen
from rayscan.storage import Place
from rayscan.vectors.choose import NO_DISTANCE, Ends, Rule, choose, chosen_first
from testing.matrices import Ids, Rows, brute_force, planted, unit

K = 20


def chosen_of(ids: Ids, scores: Rows, rule: Rule) -> np.ndarray:
    at = np.arange(len(ids))
    ends = Ends.of([(ids[:100], scores[:100]), (ids[100:], scores[100:])], rule)
    return choose((at, at), (ids, ids), scores, ends, rule)


def naive(x: Rows, ids: Ids, rule: Rule) -> np.ndarray:
    """Row by row from the definitions, from the vectors and the lists themselves."""
    chosen = np.zeros(ids.shape, bool)
    product = (x.astype(np.float64) @ x.astype(np.float64).T).astype(np.float32).astype(np.float64)
    squares = 2 - 2 * product
    squares[squares <= 2 * NO_DISTANCE] = 0
    lists = [set(row[: rule.mutual]) for row in ids.tolist()]
    for i, row in enumerate(ids):
        for place, j in enumerate(row):
            sigma_i, sigma_j = (np.sqrt(squares[a, ids[a, rule.scale_neighbor - 1]]) for a in (i, j))
            is_near = rule.scale is None or squares[i, j] <= rule.scale * sigma_i * sigma_j * (1 + 1e-12)
            chosen[i, place] = is_near and (not rule.mutual or (i in lists[j] and j in lists[i]))
        if not chosen[i].any():
            chosen[i, 0] = True
    return chosen


@pytest.mark.parametrize("rule", [Rule(K), Rule(9), Rule(None, 1.0), Rule(None, 1.3, 5), Rule(K, 0.8, 3)])
def test_equals_the_definition_with_ties_and_copies(rule: Rule) -> None:
    x = planted()
    scores, ids = brute_force(x, K)
    chosen = chosen_of(ids, scores, rule)
    np.testing.assert_array_equal(chosen, naive(x, ids, rule))
    assert chosen.any(axis=1).all()
    assert 0.05 < chosen.mean() < 0.95


def test_pairs_are_symmetric_unless_an_image_would_be_alone() -> None:
    scores, ids = brute_force(planted(), K)
    chosen = chosen_of(ids, scores, Rule(K, 1.2))
    pairs = {(i, j) for i, row in enumerate(ids) for j in row[chosen[i]].tolist()}
    lonely = {i for i in range(len(ids)) if chosen[i].sum() == 1}
    assert all((j, i) in pairs for i, j in pairs if i not in lonely)


def test_a_rule_leaves_out_a_rim_that_belongs_elsewhere() -> None:
    """A dense bundle, and 12 lone rows whose nearest rows are all in it: pairs with the bundle go."""
    rng = np.random.default_rng(0)
    center = rng.normal(size=16)
    bundle = center + 0.05 * rng.normal(size=(60, 16))
    lone = 0.4 * center + rng.normal(size=(12, 16))
    x = unit(np.concatenate([bundle, lone]))
    labels = np.array([0] * 60 + [1] * 12)
    scores, ids = brute_force(x, K)
    before = neighbor_purity(np.arange(72), ids, labels, [K])[K]
    for rule in (Rule(K), Rule(None, 1.0)):
        chosen = chosen_of(ids, scores, rule)
        assert neighbor_purity(np.arange(72), ids, labels, [K], chosen)[K] > before + 0.05
        assert chosen[60:].sum(axis=1).max() < chosen[:60].sum(axis=1).mean()


@pytest.mark.parametrize("rule", [Rule(20), Rule(None, 1.0, 20)])
def test_better_than_as_many_nearest_on_digits(rule: Rule) -> None:
    """1,797 digits of 8 x 8 pixels: purer by a point at least than as many nearest for everyone."""
    digits = load_digits()
    scores, ids = brute_force(unit(digits.data), 40)
    chosen = chosen_of(ids, scores, rule)
    everyone = np.arange(len(ids))
    as_many = round(chosen.sum(axis=1).mean())
    assert 10 <= as_many <= 20
    plain = neighbor_purity(everyone, ids, digits.target, [as_many])[as_many]
    assert neighbor_purity(everyone, ids, digits.target, [40], chosen)[40] > plain + 0.01


def test_lists_shorter_than_a_scale_nobody_asks_for() -> None:
    scores, ids = brute_force(planted(), 5)
    assert np.array_equal(chosen_of(ids, scores, Rule(5)), naive(planted(), ids, Rule(5, None, 5)))


def test_purity_of_the_first_k_chosen() -> None:
    """Counted by hand: the first two chosen of each of three images, one of which has but one."""
    ids = np.array([[1, 2, 3], [0, 2, 3], [3, 0, 1]])
    chosen = np.array([[0, 1, 1], [1, 1, 0], [0, 0, 1]], bool)
    labels = np.array([0, 0, 1, 0])
    # pairs: 0-2 no, 0-3 yes; 1-0 yes, 1-2 no; 2-1 no
    assert neighbor_purity(np.arange(3), ids, labels, [1, 2, 3], chosen) == {1: 1 / 3, 2: 2 / 5, 3: 2 / 5}


def test_chosen_come_first_and_are_counted() -> None:
    ids = np.array([[9, 8, 7, 6], [5, 4, 3, 2]])
    chosen = np.array([[0, 1, 0, 1], [1, 1, 1, 1]], bool)
    first, counts = chosen_first(ids, chosen, 3)
    assert [row[:n].tolist() for row, n in zip(first, counts, strict=True)] == [[8, 6], [5, 4, 3]]


def mined(place: Place, gids: Ids, ids: Ids, scores: Rows) -> Artifact:
    """A result of the stage mine in three row groups."""
    draft = Draft(place, Step("mine", 1, {"of": "test"}))
    columns = {"ids": pa.array(gids[ids].tolist(), pa.list_(pa.int64()))}
    columns["scores"] = pa.array(scores.tolist(), pa.list_(pa.float32()))
    table = pa.table({"gid": pa.array(gids), **columns})
    return draft.commit(
        {"neighbors.parquet": draft.write_table("neighbors.parquet", table)}, facts={"rows": 1}
    )


def test_lists_stay_and_readers_see_the_choice(tmp_path) -> None:
    x, gids = planted(), np.arange(617) * 3 + 5
    scores, ids = brute_force(x, K)
    plain = mined(Place(str(tmp_path)), gids, ids, scores)
    rule = rule_of(MineConfig(mutual=K, adaptive=1.5))
    artifact = write_chosen(plain, Draft(Place(str(tmp_path)), Step("mine", 1, {"of": "choice"})), rule)
    before, after = (a.read_table("neighbors.parquet") for a in (plain, artifact))
    assert after.drop_columns(["chosen"]).equals(before)
    want = naive(x, ids, rule)
    lists = Lists.read(artifact)
    np.testing.assert_array_equal(lists.chosen, want)
    assert artifact.facts["chosen"]["mean"] == pytest.approx(want.sum() / 617)
    for one in (plain, artifact):  # the graph of five is the same under every rule
        np.testing.assert_array_equal(neighbor_ids(one, 5)[1], gids[ids[:, :5]])
    front, counts = lists.paired(6)
    assert counts is not None and lists.gids.tolist() == gids.tolist()
    assert (want[:, 1:6] > want[:, :5]).any()  # somewhere a nearer neighbor is passed over
    assert counts.tolist() == np.minimum(want.sum(axis=1), 6).tolist()
    for row in range(617):
        assert front[row, : counts[row]].tolist() == gids[ids[row][want[row]]][:6].tolist()
    unruled = Lists.read(plain)
    assert unruled.chosen is None and unruled.paired(6)[1] is None


def test_a_choice_enters_the_fingerprint_and_ranges_are_checked() -> None:
    assert {"mutual", "adaptive"} <= set(semantic(MineConfig(mutual=20, adaptive=1.0)))
    chooses = MineConfig(num_neighbors=9, mutual=8, adaptive=1.1, scale_neighbor=9)
    assert semantic(chooses.unchosen) == semantic(MineConfig(num_neighbors=9))
    with pytest.raises(ConfigError, match=r"--mine\.scale-neighbor"):
        MineConfig(num_neighbors=6, adaptive=1.0)
    with pytest.raises(ConfigError, match=r"--mine\.mutual"):
        MineConfig(num_neighbors=20, mutual=21)
    with pytest.raises(ConfigError, match=r"--mine\.adaptive"):
        MineConfig(adaptive=0.0)
    assert not MineConfig().chooses
    assert MineConfig(num_neighbors=5, mutual=5).chooses  # a scale that no one asks for needs no 7th neighbor
