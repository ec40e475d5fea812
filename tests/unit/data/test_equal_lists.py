"""Lists of equal length and matrices: each is the other, whatever pieces the column comes in."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from rayscan.data.equal_lists import as_lists, as_rows


@pytest.mark.parametrize("kind", [np.int64, np.float32, bool])
def test_rows_become_lists_and_rows_again(kind: type) -> None:
    rows = np.arange(12).reshape(4, 3).astype(kind)
    lists = as_lists(rows)
    assert lists.to_pylist() == rows.tolist()
    pieces = pa.chunked_array([lists.slice(0, 1), lists.slice(1)])
    np.testing.assert_array_equal(as_rows(pieces), rows)
    assert as_rows(pieces).dtype == kind
