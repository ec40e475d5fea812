from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rayscan.errors import ArtifactError, DataError
from rayscan.storage import Place
from rayscan.vectors import duplicates
from rayscan.vectors.duplicates import (
    collapse,
    copy_pairs,
    expand,
    hash_rows,
    places_in_sets,
    verify_copies,
    without_self,
)
from rayscan.vectors.merge import nearest, neighbors_of_rows
from rayscan.vectors.parts import EmbeddingRows, row_ranges
from testing.matrices import (
    NO_COPIES,
    LocalShards,
    brute_force,
    collapsed,
    embedded,
    planted,
    unit,
)


def test_sets_of_equal_rows_are_those_of_a_dictionary(tmp_path):
    x = planted()
    rows = EmbeddingRows(embedded(Place(str(tmp_path)), x, num_eval=30))
    representatives, indexed = collapsed(rows, 4)
    sets: dict[bytes, list[int]] = {}
    for number, row in enumerate(x[:587]):  # the eval split is not searched
        sets.setdefault(row.tobytes(), []).append(number)
    assert representatives.tolist() == [sets[row.tobytes()][0] for row in x[:587]]
    assert indexed.uniques.tolist() == sorted(members[0] for members in sets.values())
    plural = sorted(members[:5] for members in sets.values() if len(members) > 1)
    copies = indexed.copies
    assert copies.heads.tolist() == [members[0] for members in plural]
    assert (
        np.split(copies.members, copies.starts[1:-1]) and max(len(members) for members in sets.values()) > 40
    )
    assert [part.tolist() for part in np.split(copies.members, copies.starts[1:-1])] == plural


def test_no_equal_rows():
    representatives, copies = collapse(np.arange(14, dtype=np.uint64).reshape(7, 2), 5)
    assert representatives.tolist() == list(range(7))
    assert len(copies.heads) == len(copies.members) == 0
    ids, scores = np.array([[3, 1]]), np.array([[0.5, 0.25]], np.float32)
    assert (
        expand(scores, ids, copies, 2)[1].tolist()
        == expand(scores, ids, NO_COPIES, 2)[1].tolist()
        == [[3, 1]]
    )


def test_hashes_alone_are_not_believed(tmp_path):
    rows = EmbeddingRows(embedded(Place(str(tmp_path)), planted()))
    representatives, _ = collapsed(rows, 4)
    pieces = copy_pairs(rows, representatives, 50)
    assert sum(verify_copies(piece) for piece in pieces) == (representatives != np.arange(617)).sum() > 100
    forged = representatives.copy()
    at = int(np.flatnonzero(representatives == np.arange(617))[-1])
    forged[at] = 0
    with pytest.raises(ArtifactError, match=f"row {at} equal to row 0"):
        for piece in copy_pairs(rows, forged, 50):
            verify_copies(piece)


def test_hashing_refuses_what_cannot_be_ranked(tmp_path):
    x = planted()
    x[333, 2] = np.nan
    rows = EmbeddingRows(embedded(Place(str(tmp_path)), x))
    with pytest.raises(DataError, match=r"(?s)the first is row 33 .*rows 300\.\.400"):
        for span in row_ranges(rows, 100):
            hash_rows(span)


@pytest.mark.parametrize("at_once", [1, 50, 1 << 22])
def test_a_collection_of_copies_still_gives_k_neighbors(tmp_path, monkeypatch, at_once):
    """Three pictures, 700 rows, and two of the pictures score equally with the third: ties across sets."""
    monkeypatch.setattr(duplicates, "EXPANDED_AT_ONCE", at_once)
    rng = np.random.default_rng(3)
    pictures = unit(np.array([[2.0, 0.0], [1.0, 1.0], [1.0, -1.0]]))
    x = pictures[rng.integers(0, 3, 700)]
    k = 260
    representatives, indexed = collapsed(EmbeddingRows(embedded(Place(str(tmp_path)), x)), k)
    assert len(indexed.uniques) == 3 and len(indexed.copies.members) <= 3 * (k + 1)
    scores, positions = nearest(x[indexed.uniques], LocalShards(x[indexed.uniques], 2), k + 1)
    assert positions.shape == (3, 3)
    scores, ids = expand(scores, indexed.uniques[positions], indexed.copies, k + 1)
    of_row = np.searchsorted(indexed.uniques, representatives)
    scores, ids = without_self(scores[of_row], ids[of_row], np.arange(700))
    want_scores, want_ids = brute_force(x, k)
    np.testing.assert_array_equal(ids, want_ids)
    np.testing.assert_array_equal(scores, want_scores)


def few_copies(x: np.ndarray, k: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Brute force: walk down every list, and take no more than `limit` equal rows of any kind but oneself."""
    scores, ids = brute_force(x, len(x) - 1)
    keep_scores, keep_ids = np.empty((len(x), k), np.float32), np.empty((len(x), k), np.int64)
    for row in range(len(x)):
        met: dict[bytes, int] = {}
        taken = []
        for place, other in enumerate(ids[row]):
            kind = x[other].tobytes()
            met[kind] = met.get(kind, 0) + 1
            if met[kind] <= limit:
                taken.append(place)
        keep_scores[row], keep_ids[row] = scores[row][taken[:k]], ids[row][taken[:k]]
    return keep_scores, keep_ids


@pytest.mark.parametrize("limit", [1, 2, 7, 100])
def test_few_copies_equal_a_walk_down_the_whole_list(tmp_path, limit):
    x = planted()
    representatives, indexed = collapsed(EmbeddingRows(embedded(Place(str(tmp_path)), x)), 30)
    shards = LocalShards(x[indexed.uniques], 3)
    got = neighbors_of_rows(np.arange(617), representatives, replace(indexed, max_copies=limit), shards, 30)
    want_scores, want_ids = few_copies(x, 30, limit)
    np.testing.assert_array_equal(got[1], want_ids)
    np.testing.assert_array_equal(got[0], want_scores)


def test_places_in_sets():
    assert places_in_sets(np.array([0, 1, 0, 3, 1, 0])).tolist() == [0, 0, 1, 0, 1, 2]
