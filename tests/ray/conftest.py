"""What tests share: one tiny run of the whole river, and a Ray that their commands may join."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ray.standing import standing_ray
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


@pytest.fixture(scope="session")
def standing() -> Iterator[dict[str, str]]:
    """Environment of commands that join one Ray, which stands until the last test."""
    with standing_ray() as environment:
        yield environment


@pytest.fixture(scope="module")
def joined(standing: dict[str, str]) -> Iterator[None]:
    """Every command of the module joins the Ray that stands, rather than start one."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in standing.items():
            patch.setenv(name, value)
        yield
