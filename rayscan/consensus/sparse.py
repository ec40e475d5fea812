"""A sparse matrix times dense rows on all threads."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

Scalar = TypeVar("Scalar", np.float32, np.float64)
Product = Callable[[NDArray[Scalar]], NDArray[Scalar]]


def product(matrix: csr_array, dtype: type[Scalar]) -> Product[Scalar]:
    """What multiplies dense rows by a matrix: [N, M], dense [M, w] -> [N, w].

    SciPy's own product takes one thread; that of torch, where it has MKL, takes all of them.

    Args:
        matrix: Left factor.
        dtype: Of both factors and of the product.
    """
    matrix = csr_array(matrix, dtype=dtype)
    if not torch.backends.mkl.is_available():
        return lambda dense: matrix @ dense
    bounds, columns = (torch.from_numpy(np.asarray(one, np.int64)) for one in (matrix.indptr, matrix.indices))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the layout is new
        held = torch.sparse_csr_tensor(bounds, columns, torch.from_numpy(matrix.data), matrix.shape)

    def multiplied(dense: NDArray[Scalar]) -> NDArray[Scalar]:
        found: NDArray[Scalar] = (held @ torch.from_numpy(np.ascontiguousarray(dense))).numpy()
        return found

    return multiplied
