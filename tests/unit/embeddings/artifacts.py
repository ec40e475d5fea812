"""A finished embed artifact of given rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from rayscan.artifacts import Artifact, Draft, Step
from rayscan.storage import Place


def embedded(place: Place, name: str, rows: Any, gids: Any, train_rows: int) -> Artifact:
    """What stage embed leaves of these rows, in one part."""
    draft = Draft(place, Step("embed", 1, {"name": name}))
    parts = pa.table({"part": [0], "name": ["part-00000.npy"], "first_row": [0], "rows": [len(rows)]})
    files = {
        "part-00000.npy": draft.write_array("part-00000.npy", np.asarray(rows, np.float32)),
        "parts.parquet": draft.write_table("parts.parquet", parts),
        "gids.npy": draft.write_array("gids.npy", np.asarray(gids, np.int64)),
    }
    facts = {"rows": len(rows), "train_rows": train_rows, "dim": rows.shape[1], "num_views": 1}
    return draft.commit(files, facts=facts)
