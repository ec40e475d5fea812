from __future__ import annotations

import os
import subprocess
import sys

import faiss
import numpy as np
import pytest

from rayscan.errors import DataError
from rayscan.vectors.shard_search import ShardSearch
from testing.matrices import planted

on_gpu = pytest.param(
    True, marks=pytest.mark.skipif(faiss.get_num_gpus() == 0, reason="no GPU, or a faiss that knows none")
)


@pytest.mark.parametrize("use_gpu", [False, on_gpu])
@pytest.mark.parametrize("k", [1, 30, 617, 5000])
def test_proposes_the_best(use_gpu, k):
    x = planted()
    scores, local = ShardSearch(x, threads=1, use_gpu=use_gpu, where="test").search(x[:50], k)
    width = min(k, 617)
    exact = x[:50].astype(np.float64) @ x.astype(np.float64).T
    assert scores.shape == local.shape == (50, width)
    assert all(len(set(row)) == width for row in local.tolist())
    np.testing.assert_allclose(scores, np.take_along_axis(exact, local, axis=1), atol=1e-6)
    np.testing.assert_allclose(scores, -np.sort(-exact, axis=1)[:, :width], atol=1e-6)


def test_refuses_rows_and_queries_that_are_not_numbers():
    x = planted()
    shard = ShardSearch(x, threads=1, use_gpu=False, where="shard 4")
    query = x[:2].copy()
    query[1] = np.nan
    with pytest.raises(DataError, match=r"(?s)1 queries with less.*shard 4"):
        shard.search(query, 5)
    x[10] = np.nan
    with pytest.raises(DataError, match=r"(?s)row 10 .*shard 4"):
        ShardSearch(x, threads=1, use_gpu=False, where="shard 4")


@pytest.mark.parametrize(("given", "spins"), [(None, "0"), ("ACTIVE", "30000000000")])
def test_openmp_is_told_not_to_spin_before_faiss_loads(given, spins):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_DISPLAY_ENV": "VERBOSE"} | ({"OMP_WAIT_POLICY": given} if given else {})
    command = [sys.executable, "-c", "import rayscan.vectors.shard_search"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert f"GOMP_SPINCOUNT = '{spins}'" in done.stderr, done.stderr
