"""What a training returns, apart from what trains: Ray Train's controller reads it and imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rayscan.artifacts import FileEntry


@dataclass(frozen=True)
class Trained:
    """What worker 0 returns: files of the draft, and facts for the manifest."""

    files: Mapping[str, FileEntry] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
