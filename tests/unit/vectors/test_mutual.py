"""Mutual neighbors against the plain definition, and the choice as a file and as those who read it see it."""

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
from rayscan.storage import Place
from rayscan.vectors.mutual import chosen_first, mth_neighbors, mutual_neighbors
from rayscan.vectors.neighbor_table import NeighborTable, neighbor_ids, write_mutual
from testing.matrices import Ids, Rows, brute_force, planted, unit

K = 20


def chosen_of(ids: Ids, scores: Rows, m: int) -> np.ndarray:
    mth = mth_neighbors([(ids[:100], scores[:100]), (ids[100:], scores[100:])], m)
    return mutual_neighbors(np.arange(len(ids)), ids, scores, mth, m)


def naive(ids: Ids, m: int) -> np.ndarray:
    """Row by row from the definition, from the lists themselves."""
    chosen = np.zeros(ids.shape, bool)
    lists = [set(row[:m]) for row in ids.tolist()]
    for i, row in enumerate(ids):
        for place, j in enumerate(row):
            chosen[i, place] = i in lists[j] and j in lists[i]
        if not chosen[i].any():
            chosen[i, 0] = True
    return chosen


@pytest.mark.parametrize("m", [K, 9, 5])
def test_equals_the_definition_with_ties_and_copies(m: int) -> None:
    scores, ids = brute_force(planted(), K)
    chosen = chosen_of(ids, scores, m)
    np.testing.assert_array_equal(chosen, naive(ids, m))
    assert chosen.any(axis=1).all()
    assert 0.05 < chosen.mean() < 0.95


def test_pairs_are_symmetric_unless_an_image_would_be_alone() -> None:
    scores, ids = brute_force(planted(), K)
    chosen = chosen_of(ids, scores, K)
    pairs = {(i, j) for i, row in enumerate(ids) for j in row[chosen[i]].tolist()}
    lonely = {i for i in range(len(ids)) if chosen[i].sum() == 1}
    assert all((j, i) in pairs for i, j in pairs if i not in lonely)


def test_a_rim_that_belongs_elsewhere_is_left_out() -> None:
    """A dense bundle, and 12 lone rows whose nearest rows are all in it: pairs with the bundle go."""
    rng = np.random.default_rng(0)
    center = rng.normal(size=16)
    bundle = center + 0.05 * rng.normal(size=(60, 16))
    lone = 0.4 * center + rng.normal(size=(12, 16))
    x = unit(np.concatenate([bundle, lone]))
    labels = np.array([0] * 60 + [1] * 12)
    scores, ids = brute_force(x, K)
    before = neighbor_purity([(np.arange(72), ids, None)], labels, [K])[K]
    chosen = chosen_of(ids, scores, K)
    assert neighbor_purity([(np.arange(72), ids, chosen)], labels, [K])[K] > before + 0.05
    assert chosen[60:].sum(axis=1).max() < chosen[:60].sum(axis=1).mean()


def test_better_than_as_many_nearest_on_digits() -> None:
    """1,797 digits of 8 x 8 pixels: purer by a point at least than as many nearest for everyone."""
    digits = load_digits()
    scores, ids = brute_force(unit(digits.data), 40)
    chosen = chosen_of(ids, scores, 20)
    everyone = np.arange(len(ids))
    as_many = round(chosen.sum(axis=1).mean())
    assert 10 <= as_many <= 20
    plain = neighbor_purity([(everyone, ids, None)], digits.target, [as_many])[as_many]
    assert neighbor_purity([(everyone, ids, chosen)], digits.target, [40])[40] > plain + 0.01


def test_purity_of_the_first_k_chosen() -> None:
    """Counted by hand: the first two chosen of each of three images, one of which has but one."""
    ids = np.array([[1, 2, 3], [0, 2, 3], [3, 0, 1]])
    chosen = np.array([[0, 1, 1], [1, 1, 0], [0, 0, 1]], bool)
    labels = np.array([0, 0, 1, 0])
    # pairs: 0-2 no, 0-3 yes; 1-0 yes, 1-2 no; 2-1 no
    assert neighbor_purity([(np.arange(3), ids, chosen)], labels, [1, 2, 3]) == {1: 1 / 3, 2: 2 / 5, 3: 2 / 5}


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
    artifact = write_mutual(plain, Draft(Place(str(tmp_path)), Step("mine", 1, {"of": "choice"})), 9)
    before, after = (a.read_table("neighbors.parquet") for a in (plain, artifact))
    assert after.drop_columns(["chosen"]).equals(before)
    want = naive(ids, 9)
    lists = NeighborTable.read(artifact)
    np.testing.assert_array_equal(lists.chosen, want)
    assert artifact.facts["chosen"]["mean"] == pytest.approx(want.sum() / 617)
    for one in (plain, artifact):  # the graph of five is the same with and without
        np.testing.assert_array_equal(neighbor_ids(one, 5)[1], gids[ids[:, :5]])
    front, counts = lists.paired(6)
    assert counts is not None and lists.gids.tolist() == gids.tolist()
    assert (want[:, 1:6] > want[:, :5]).any()  # somewhere a nearer neighbor is passed over
    assert counts.tolist() == np.minimum(want.sum(axis=1), 6).tolist()
    for row in range(617):
        assert front[row, : counts[row]].tolist() == gids[ids[row][want[row]]][:6].tolist()
    unruled = NeighborTable.read(plain)
    assert unruled.chosen is None and unruled.paired(6)[1] is None


def test_a_choice_enters_the_fingerprint_and_ranges_are_checked() -> None:
    assert "mutual" in semantic(MineConfig(mutual=20))
    chooses = MineConfig(num_neighbors=9, mutual=8)
    assert semantic(chooses.unchosen) == semantic(MineConfig(num_neighbors=9))
    with pytest.raises(ConfigError, match=r"--mine\.mutual"):
        MineConfig(num_neighbors=20, mutual=21)
    assert not MineConfig().chooses
    assert MineConfig(num_neighbors=5, mutual=5).chooses
