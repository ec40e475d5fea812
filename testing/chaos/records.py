"""Ray Train's own record of a training, torn: what a crash leaves of a file that is rewritten in place."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ray.train.v2._internal.constants import CHECKPOINT_MANAGER_SNAPSHOT_FILENAME

WHOLE = json.dumps(
    {
        "ray_version": "2.60.0",
        "checkpoint_results": [{"checkpoint_dir_name": "checkpoint_that_is_gone", "metrics": {}}],
        "checkpoint_report_indices": [1],
        "latest_checkpoint_result": {"checkpoint_dir_name": "checkpoint_that_is_gone", "metrics": {}},
        "pending_training_results": [],
        "pending_validation_specs": [],
        "current_report_index": 1,
        "validated_checkpoint_dir_names": [],
        "timed_out_validation_checkpoint_dir_names": [],
        "failed_validation_checkpoint_dir_names": [],
    }
).encode()
"""A record as Ray 2.60 writes it; whole it is no better, for the checkpoint it names is gone."""


def records(out: Path) -> list[Path]:
    """Records that lie under the checkpoints of a training."""
    return sorted(out.rglob(CHECKPOINT_MANAGER_SNAPSHOT_FILENAME))


def plant(out: Path, name: str, cuts: Sequence[int]) -> int:
    """Leave a torn record wherever a training of this name might look for one of its own.

    Args:
        out: Directory of the checkpoints.
        name: Of the training.
        cuts: How many bytes are left: one new directory for each, and the bare name and those of earlier
            starts take them in turn.

    Returns:
        How many records there are now.
    """
    folder = out / ".work" / "ray"
    known = [name, *sorted(path.name for path in folder.glob(f"{name}-*"))]
    torn = {directory: cuts[i % len(cuts)] for i, directory in enumerate(known)}
    torn |= {f"{name}-{i:08x}": cut for i, cut in enumerate(cuts)}
    for directory, cut in torn.items():
        path = folder / directory / CHECKPOINT_MANAGER_SNAPSHOT_FILENAME
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(WHOLE[:cut])
    return len(records(out))
