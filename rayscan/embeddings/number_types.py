"""The number types that vectors are stored in: how their bytes become float32, and how coarse they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class NumberType:
    """A binary floating point type, little-endian."""

    name: str
    stored: np.dtype[Any]
    """As numpy reads it; bfloat16, which numpy does not have, as uint16."""
    roundoff: float
    """Largest relative error of rounding to it, 2^-p at p significant bits."""
    tiny_error: float
    """Largest absolute error of rounding a number below its normal range: half of the smallest number."""

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return self.stored.itemsize

    def as_float32(self, numbers: NDArray[Any]) -> NDArray[np.float32]:
        """Numbers of type `stored` in float32: exact but for float64, which is rounded, or infinite.

        A bfloat16 is the upper half of a float32.
        """
        if self.name == "bfloat16":
            return (numbers.astype(np.uint32) << np.uint32(16)).view(np.float32)
        with np.errstate(over="ignore"):
            return numbers.astype(np.float32, copy=False)


NUMBER_TYPES: Mapping[str, NumberType] = {
    one.name: one
    for one in (
        NumberType("float16", np.dtype("<f2"), 2.0**-11, 2.0**-25),
        NumberType("bfloat16", np.dtype("<u2"), 2.0**-8, 2.0**-134),
        NumberType("float32", np.dtype("<f4"), 2.0**-24, 2.0**-150),
        # Read as float32, so as coarse as that.
        NumberType("float64", np.dtype("<f8"), 2.0**-24, 2.0**-150),
    )
}
"""Number types by name."""
