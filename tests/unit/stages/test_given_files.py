"""Files a user gives to the methods: shares of the clusters, first labels of SeLa."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayscan.config import Recipe, SelaConfig
from rayscan.errors import ConfigError, DataError
from rayscan.training.first_labels import read_labels
from rayscan.training.prior import prior_tensor, read_prior

RECIPE = Recipe(name="x", num_clusters=3)


@pytest.mark.parametrize("text", ["1\n2\n1\n", "[10, 20, 10]", " 0.25 0.5 0.25 "])
def test_shares_are_counts_or_fractions(tmp_path: Path, text: str) -> None:
    (path := tmp_path / "shares.txt").write_text(text)
    assert read_prior(RECIPE, str(path)) == pytest.approx([0.25, 0.5, 0.25])


def test_no_file_is_no_prior() -> None:
    assert read_prior(RECIPE, None) is None
    assert prior_tensor(None) is None


@pytest.mark.parametrize("text", ["1\n2\n", "1\n0\n1\n", "1\nnan\n1\n", "one\ntwo\n", "[[1], 2, 3]"])
def test_shares_that_do_not_fit_are_refused(tmp_path: Path, text: str) -> None:
    (path := tmp_path / "shares.txt").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_prior(RECIPE, str(path))
    assert str(path) in caught.value.text


def with_labels(path: Path, num_heads: int = 1, **columns: list[int]) -> Recipe:
    pq.write_table(pa.table(columns), path)
    return replace(RECIPE, sela=SelaConfig(first_labels=str(path), num_heads=num_heads))


def test_first_labels_are_joined_by_gid(tmp_path: Path) -> None:
    """Rows in any order, more images than asked for; heads beyond the columns begin again."""
    gids = np.array([2, 5])
    one = with_labels(tmp_path / "a.parquet", 2, gid=[5, 9, 2], cluster=[1, 0, 2])
    assert read_labels(one, gids).tolist() == [[2, 1], [2, 1]]
    three = with_labels(tmp_path / "b.parquet", 3, gid=[2, 5], head_0=[0, 1], head_1=[2, 2])
    assert read_labels(three, gids).tolist() == [[0, 1], [2, 2], [0, 1]]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"gid": [2], "cluster": [0]}, "no first label"),
        ({"gid": [2, 5], "cluster": [0, 3]}, "no cluster"),
        ({"gid": [2, 5], "class": [0, 1]}, "cannot be used"),
    ],
)
def test_first_labels_that_do_not_fit_are_refused(
    tmp_path: Path, columns: dict[str, list[int]], message: str
) -> None:
    recipe = with_labels(tmp_path / "a.parquet", **columns)
    with pytest.raises(DataError, match=message):
        read_labels(recipe, np.array([2, 5]))
