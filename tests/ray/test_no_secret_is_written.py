"""Secrets stand in the environment of a whole run; nothing it writes or says holds one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rayscan.fleet.security import private_root
from tests.ray.conftest import CANARIES


def holders(paths: Iterable[Path], secrets: Iterable[str]) -> list[str]:
    """Files that hold one of some texts, also compressed in a table."""
    wanted = [secret.encode() for secret in secrets]
    found = []
    for path in paths:
        if not path.is_file() or path.is_symlink():
            continue
        data = path.read_bytes()
        if path.suffix == ".parquet":
            data += str(pq.read_table(path).to_pylist()).encode()
        found += [str(path)] if any(secret in data for secret in wanted) else []
    return found


def test_neither_results_nor_what_was_said_hold_a_secret(finished: Path) -> None:
    written = [*finished.rglob("*"), finished.parent / "said"]
    assert sum(path.is_file() for path in written) > 30
    assert holders(written, CANARIES.values()) == []


def test_nor_do_the_logs_of_ray(finished: Path) -> None:
    since = finished.stat().st_ctime - 600
    logs = [
        p
        for p in private_root().parent.glob("rayscan-*/ray/session_2*/logs/**/*")  # its name may be taken
        if p.is_file() and p.stat().st_mtime > since
    ]
    assert any(path.name.startswith("gcs_server") for path in logs)
    assert any(path.name.startswith("worker") for path in logs)
    assert holders(logs, CANARIES.values()) == []


def test_the_search_is_not_blind(tmp_path: Path) -> None:
    secret = next(iter(CANARIES.values()))
    (tmp_path / "log").write_text(f"connecting with {secret}\n")
    pq.write_table(pa.table({"uri": [f"s3://x:{secret}@bucket"]}), tmp_path / "t.parquet", compression="zstd")
    (tmp_path / "clean").write_text("nothing\n")
    assert len(holders(tmp_path.iterdir(), [secret])) == 2
    assert secret not in os.environ.values(), "the tests themselves need no secret"
