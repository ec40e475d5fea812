"""Places to store results: a local directory, and an S3 server on loopback; and actors in this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayscan.storage import Place


@pytest.fixture(scope="session")
def s3_uri() -> Iterator[str]:
    """A bucket on a real HTTP server that speaks S3; its address as rayscan takes it."""
    server_module = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    from pyarrow import fs

    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    os.environ.update(
        AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_EC2_METADATA_DISABLED="true"
    )
    options = f"?scheme=http&endpoint_override={host}:{port}&region=us-east-1&allow_bucket_creation=true"
    filesystem, _ = fs.FileSystem.from_uri(f"s3://bucket{options}")
    filesystem.create_dir("bucket")
    yield f"s3://bucket/run{options}"
    server.stop()


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """The same test on two filesystems."""
    if request.param == "local":
        return Place(str(tmp_path / "run"))
    return Place(request.getfixturevalue("s3_uri")).child(tmp_path.name)


@pytest.fixture
def local_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of a k-means are held in this process."""
    from rayscan.fleet import kmeans
    from tests.unit.local_fleet import LocalPool

    monkeypatch.setattr(kmeans, "ActorPool", LocalPool)
    monkeypatch.setattr(LocalPool, "dies_after", None)
