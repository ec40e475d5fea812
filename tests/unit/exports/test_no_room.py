"""A full or read-only disk ends an export in words."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from rayscan import exports
from rayscan.errors import ArtifactError


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_what_the_disk_refuses_is_told(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def full(_run: Any, _out: str) -> str:
        raise OSError(number, "the disk's own words")

    monkeypatch.setitem(exports.EXPORTERS, "csv", full)
    with pytest.raises(ArtifactError, match=r"(?s)cannot be written.*the disk's own words.*make room"):
        exports.export(None, "csv", str(tmp_path / "x.csv"))  # type: ignore[arg-type]
