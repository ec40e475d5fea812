"""Addresses that requests name: read below an allowed prefix alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayscan.errors import ConfigError
from rayscan.serving.refusal import RefusalError
from rayscan.serving.stores import Stores

MOST = 1000


def status_of(stores: Stores, uri: str) -> int:
    with pytest.raises(RefusalError) as refused:
        stores.read(uri, MOST)
    return refused.value.status


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    allowed = tmp_path / "photos"
    (allowed / "in a folder").mkdir(parents=True)
    (allowed / "in a folder" / "a.jpg").write_bytes(b"abc")
    (allowed / "large.jpg").write_bytes(b"x" * (MOST + 1))
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "photos-of-others").mkdir()
    (tmp_path / "photos-of-others" / "b.jpg").write_bytes(b"secret")
    (allowed / "link.jpg").symlink_to(tmp_path / "secret")
    (allowed / "fine.jpg").symlink_to(allowed / "in a folder" / "a.jpg")
    return allowed


def test_files_below_the_prefix_are_read(folder: Path) -> None:
    stores = Stores((str(folder),))
    assert stores.read(f"{folder}/in a folder/a.jpg", MOST) == b"abc"
    assert stores.read(f"{folder}/fine.jpg", MOST) == b"abc"


def test_nothing_is_read_without_a_prefix(folder: Path) -> None:
    assert status_of(Stores(), f"{folder}/in a folder/a.jpg") == 403


@pytest.mark.parametrize(
    "uri",
    [
        "{0}/../secret", "{0}/x/../../secret", "{0}/./a", "{0}//a", "{0}/link.jpg", "{0}-of-others/b.jpg",
        "{0}", "{0}/%2e%2e/secret", "file://{0}/in a folder/a.jpg", "/etc/passwd", "http://127.0.0.1/a.jpg",
        "https://example.org/a.jpg", "HTTP://example.org", "ftp://h/a", "s3://bucket/a.jpg", "", "\x00",
        "{0}/a\nb", "gs://b/{0}/a", "{0}/a?endpoint_override=http://127.0.0.1", "{0}/a#b",
        "data:image/png;base64,QQ==",
    ],
)  # fmt: skip
def test_what_is_not_below_the_prefix_is_refused(folder: Path, uri: str) -> None:
    assert status_of(Stores((str(folder),)), uri.format(folder)) == 403


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/photos/a.jpg?endpoint_override=http://169.254.169.254",
        "s3://bucket/photos/../other/a.jpg",
        "s3://bucket@host/photos/a.jpg",
        "s3://bucket/photosets/a.jpg",
        "s3://other/photos/a.jpg",
    ],
)
def test_an_address_cannot_leave_its_bucket_nor_name_another_endpoint(uri: str) -> None:
    assert status_of(Stores(("s3://bucket/photos",)), uri) == 403


def test_missing_and_large_files(folder: Path) -> None:
    stores = Stores((str(folder),))
    assert status_of(stores, f"{folder}/none.jpg") == 404
    assert status_of(stores, f"{folder}/in a folder") == 404
    assert status_of(stores, f"{folder}/large.jpg") == 413


@pytest.mark.parametrize("prefix", ["http://h/a", "https://h", "/", ""])
def test_a_prefix_of_the_web_or_of_everything_is_no_prefix(prefix: str) -> None:
    with pytest.raises(ConfigError, match="allow-store"):
        Stores((prefix,))
