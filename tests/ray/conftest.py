"""One tiny run of the whole river, shared by the tests that look at it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ray.tiny import command, run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`--out` of a finished tiny demo."""
    out = tmp_path_factory.mktemp("river") / "run"
    run(command(out))
    return out
