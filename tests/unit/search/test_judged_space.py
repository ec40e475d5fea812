"""The space that trials are judged in: that of the method consensus, made once, the same for any K."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from rayscan.artifacts import Artifact, Draft, Step
from rayscan.consensus.probe import DiscriminantProbe, Probe, RidgeProbe
from rayscan.consensus.score import Score
from rayscan.consensus.space import make_space
from rayscan.data.keyed import permutation
from rayscan.errors import DataError
from rayscan.search import judged_space
from rayscan.storage import Place
from rayscan.training import whitened
from testing.matrices import brute_force, embedded, unit


def groups(count: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 4, count)


def blobs(count: int = 600) -> np.ndarray:
    """Unit rows in 4 groups, 20 dimensions, one of which varies much and means nothing."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(4, 20))[groups(count)] + 0.6 * rng.normal(size=(count, 20))
    rows[:, 0] = 4 * rng.normal(size=count)
    return unit(rows)


def mined(place: Place, x: np.ndarray, k: int) -> Artifact:
    scores, ids = brute_force(x, k)
    table = pa.table({"gid": np.arange(len(x)), "ids": list(ids), "scores": list(scores)})
    draft = Draft(place, Step("mine", 1, {"k": k}))
    return draft.commit({"neighbors.parquet": draft.write_table("neighbors.parquet", table)})


def test_the_score_is_that_of_the_method_consensus(tmp_path: Path) -> None:
    """S of both on the same rows: nmi_nn to the last bit of its graph, cv_mi up to who is in which fold."""
    x, place = blobs(), Place(str(tmp_path))
    made = judged_space.find_or_make(embedded(place, x), mined(place, x, 12), place.child("search"), 4)
    judge = judged_space.judge(made, np.arange(len(x)), 4)
    space = make_space(x)
    assert (judge.ids == space.ids[:, :5]).mean() > 0.999  # mined in float64, searched in float32
    rng = np.random.default_rng(2)
    truth = groups(len(x))
    some = [truth, np.where(rng.random(len(x)) < 0.3, rng.integers(0, 4, len(x)), truth), truth // 2]
    expected = Score(space, 4, seed=0).of(some)
    got = [judge.score(one)["score"] for one in some]
    assert got == pytest.approx(expected, abs=0.01)
    assert got[0] > got[2] > got[1]


@pytest.mark.parametrize(("num_clusters", "kind"), [(100, RidgeProbe), (101, DiscriminantProbe)])
def test_many_clusters_are_foreseen_as_the_method_consensus_does(
    tmp_path: Path, num_clusters: int, kind: type[Probe]
) -> None:
    """Regression hardly ever names a small cluster among many, and would favour trials of equal ones."""
    x, place = blobs(), Place(str(tmp_path))
    made = judged_space.find_or_make(embedded(place, x), mined(place, x, 12), place.child("a"), num_clusters)
    clusters = np.random.default_rng(3).integers(0, num_clusters, len(x))
    rows, order = made.read_array("coordinates.npy"), permutation(0, "probed images", 0, len(x))
    expected = kind(rows, order).cv_mi([clusters[made.read_array("probed.npy")]], num_clusters)[0]
    judge = judged_space.judge(made, np.arange(len(x)), num_clusters)
    assert judge.score(clusters)["cv_mi"] == pytest.approx(expected, abs=1e-12)


def test_it_does_not_depend_on_how_many_neighbors_were_mined_and_is_made_once(tmp_path: Path) -> None:
    x, place = blobs(), Place(str(tmp_path))
    embed = embedded(place, x)
    few = judged_space.find_or_make(embed, mined(place, x, 5), place.child("a"), 4)
    many = judged_space.find_or_make(embed, mined(place, x, 30), place.child("b"), 4)
    assert (few.read_array("neighbors.npy") == many.read_array("neighbors.npy")).mean() > 0.999
    manifest = Path(few.place.uri) / "manifest.json"
    before = manifest.stat().st_mtime_ns
    again = judged_space.find_or_make(embed, mined(place, x, 5), place.child("a"), 4)
    assert again.identity == few.identity
    assert manifest.stat().st_mtime_ns == before


def test_many_images_are_judged_on_a_sample_with_its_own_neighbors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whitened, "MAX_ROWS", 200)
    x, place = blobs(), Place(str(tmp_path))
    made = judged_space.find_or_make(embedded(place, x), mined(place, x, 12), place.child("search"), 4)
    judged = made.read_array("judged.npy")
    assert len(set(judged.tolist())) == 200
    assert (np.diff(judged) > 0).all()
    assert made.read_array("neighbors.npy").tolist() == make_space(x[judged]).ids[:, :5].tolist()
    judge = judged_space.judge(made, np.arange(len(x)) * 2, 4)
    truth = groups(len(x))
    spoilt = truth.copy()
    spoilt[np.setdiff1d(np.arange(len(x)), judged)] = 0
    parts = ("score", "nmi_nn", "cv_mi")
    assert [judge.score(spoilt)[p] for p in parts] == [judge.score(truth)[p] for p in parts]
    assert judge.score(truth)["nmi_nn"] > 0.8


def test_embeddings_that_are_all_equal_are_refused(tmp_path: Path) -> None:
    x, place = np.repeat(blobs(1), 40, axis=0), Place(str(tmp_path))
    with pytest.raises(DataError, match="the same embedding"):
        judged_space.find_or_make(embedded(place, x), mined(place, x, 5), place.child("search"), 4)
