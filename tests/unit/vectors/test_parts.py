from __future__ import annotations

import pickle

import numpy as np
import pytest

from rayscan.artifacts import Draft, Step
from rayscan.errors import ArtifactError, DataError
from rayscan.storage import Place
from rayscan.vectors import parts
from rayscan.vectors.parts import EmbeddingRows, require_unit_rows, row_ranges
from testing.matrices import embedded, planted


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_rows_by_range_and_by_number(place: Place, dtype, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parts, "READ_THROUGH", 3)
    x = planted().astype(dtype)
    rows = EmbeddingRows(embedded(place, x, rows_per_part=100, num_eval=17))
    for first, stop in [(0, 617), (0, 0), (99, 101), (100, 200), (250, 451), (616, 617)]:
        got = rows.read(first, stop)
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, x[first:stop].astype(np.float32))
    numbers = np.random.default_rng(1).integers(0, 617, 90)  # some twice, none in order
    np.testing.assert_array_equal(rows.take(numbers), x[numbers].astype(np.float32))
    assert rows.take(np.empty(0, np.int64)).shape == (0, 12)
    assert (rows.train_rows, rows.dim) == (600, 12)
    assert [(s.first, s.stop) for s in row_ranges(rows, 250)] == [(0, 250), (250, 500), (500, 600)]


def test_travels_without_its_rows(tmp_path):
    rows = EmbeddingRows(embedded(Place(str(tmp_path)), planted(), gids=np.arange(617) * 3))
    rows.read(0, 617)
    assert rows.gids[616] == 1848
    data = pickle.dumps(rows)
    assert len(data) < 4000 < planted().nbytes
    np.testing.assert_array_equal(pickle.loads(data).take(np.array([5])), planted()[5:6])


def test_refuses_rows_that_do_not_exist(tmp_path):
    rows = EmbeddingRows(embedded(Place(str(tmp_path)), planted()))
    for call in (
        lambda: rows.read(600, 618),
        lambda: rows.read(-1, 5),
        lambda: rows.take(np.array([3, 617])),
    ):
        with pytest.raises(DataError, match="outside the embeddings"):
            call()
    with pytest.raises(DataError, match="outside the embeddings"):
        rows.take(np.array([-1]))


@pytest.mark.parametrize(
    "wrong", [np.zeros((100, 12)), np.zeros((99, 12), np.float32), np.zeros((12, 100), np.float32).T]
)
def test_refuses_parts_that_are_not_as_listed(place: Place, wrong):
    artifact = embedded(place, planted()[:100])
    entry = Draft(place, Step("embed", 1, {"of": "test", "rows": 100})).write_array("part-00000.npy", wrong)
    artifact.manifest["files"]["part-00000.npy"] = vars(entry)
    with pytest.raises(ArtifactError, match="a part is not what its table says"):
        EmbeddingRows(artifact).read(0, 5)


def test_refuses_a_table_with_a_gap(tmp_path):
    artifact = embedded(Place(str(tmp_path)), planted())
    artifact.manifest["facts"]["rows"] = 700
    with pytest.raises(ArtifactError, match="do not cover the rows"):
        EmbeddingRows(artifact).read(0, 5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.0])
def test_refuses_rows_without_a_cosine(value):
    x = planted()
    require_unit_rows(x.astype(np.float16).astype(np.float32), "here")
    require_unit_rows(np.zeros((2, 3), np.float32), "here")
    x[41, 3] = value
    with pytest.raises(DataError, match=r"(?s)the first is row 41 .*where: +here"):
        require_unit_rows(x, "here")
