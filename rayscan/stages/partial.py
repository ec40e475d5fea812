"""Arrays of parts that are finished while their stage is not."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import numpy as np

from rayscan.artifacts import Draft, FileEntry
from rayscan.errors import ArtifactError


def part_array(draft: Draft, entry: FileEntry) -> np.ndarray[Any, Any]:
    """A `.npy` file of a finished part, checked.

    Raises:
        ArtifactError: it is not what was written.
    """
    data = draft.place.read(entry.path)
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise ArtifactError(
            f"{draft.step.stage}: a finished part is not what was written",
            expected=f"sha256 {entry.sha256[:12]}...",
            got="other bytes",
            where=draft.place.uri_of(entry.path),
            fix="remove this directory and run the same command again",
        )
    array: np.ndarray[Any, Any] = np.load(io.BytesIO(data), allow_pickle=False)
    return array
