"""One tiny run of the whole river, shared by the tests that look at it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ray.tiny import command, run

CANARIES = {
    name: f"canary-{name.lower()}-5f3a9c"
    for name in (
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AZURE_STORAGE_KEY",
        "HF_TOKEN",
        "DATABASE_URL",
    )
}
"""Secrets in the environment of the shared run: none may be written anywhere."""


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`--out` of a finished tiny demo."""
    out = tmp_path_factory.mktemp("river") / "run"
    done = run(command(out), **CANARIES)
    (out.parent / "said").write_text(done.stdout + done.stderr)
    return out
