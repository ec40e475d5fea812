"""Array types that many rooms share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
"""Integers, such as gids or row numbers, int64."""
Floats = NDArray[np.float32]
"""Rows of features, or what is made of them, float32."""
