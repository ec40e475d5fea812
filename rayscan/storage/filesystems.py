"""Addresses and the clients behind them: local paths, and what `pyarrow.fs` or fsspec knows.

A local file is named by its path as it stands, or by a `file://` URI with its escapes. A remote one is named
by its URI: a query string (`?region=...&scheme=...`) belongs to the client and stays at the end; the rest is
the name in the store as it stands, without escapes, `?` and `#` included. Where a query begins is said here
alone.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa
from pyarrow import fs as pafs

from rayscan.errors import ArtifactError, ConfigError

SECRETS = ("access_key", "secret_key", "session_token", "password", "token", "sas_token", "account_key")
_QUERY = re.compile(r"\?(?:[A-Za-z_]+=[^?&#]*(?:&[A-Za-z_]+=[^?&#]*)*)?$")
_ONE_SLASH = re.compile(r"(?:s3a?|s3n|gs|gcs|hdfs|abfss?|az|file|memory):/(?!/)", re.IGNORECASE)
_SAME_AS = {"s3a": "s3", "s3n": "s3"}
"""What Hadoop calls a scheme -> its name here."""
CONNECT_S, REQUEST_S = 10.0, 30.0
ATTEMPTS = 2
"""Tries of the S3 client itself; a stale connection costs one."""


def local_path(uri: str) -> Path | None:
    """The path of a local address, None for a remote one."""
    if "://" not in uri:
        return Path(uri)
    return Path(unquote(urlsplit(uri).path)) if uri.startswith("file://") else None


def is_local(uri: str) -> bool:
    """Whether `uri` names a path on this machine."""
    return "://" not in uri or uri.startswith("file://")


def split_query(uri: str) -> tuple[str, str]:
    """An address without its query string, and that with its question mark; empty if it has none.

    A local path has none, whatever it holds.
    """
    found = None if "://" not in uri else _QUERY.search(uri)
    return (uri, "") if found is None else (uri[: found.start()], found[0])


def with_query(address: str, query: str) -> str:
    """What `split_query` takes apart: a name that ends as if it had a query gets an empty one."""
    return address + (query or ("?" if split_query(address)[1] else ""))


def join(uri: str, *names: str) -> str:
    """`uri` with path parts appended; a query string (endpoint and the like) stays at the end."""
    head, query = split_query(uri)
    return with_query("/".join([head.rstrip("/"), *[n.strip("/") for n in names]]), query)


def refuse_malformed(uri: str) -> None:
    """Refuse an address with too few slashes or too many.

    Raises:
        ConfigError: naming it.
    """
    if _ONE_SLASH.match(uri):
        raise ConfigError(
            "an address of a store has two slashes after its scheme",
            expected="scheme://bucket/name",
            got=uri,
            fix="write two slashes, or ./ before a folder of this name",
        )
    if not is_local(uri) and "//" in split_query(uri)[0].partition("://")[2]:
        raise ConfigError(
            "an address of a store has an empty part",
            expected="one slash between two names",
            got=uri,
            fix="write one slash; objects whose keys hold two in a row have to be renamed",
        )


def refuse_secrets(uri: str) -> None:
    """Refuse an address that carries credentials: addresses are written to results, logs and job records.

    Raises:
        ConfigError: naming the place and what was found, not the secret; or its slashes are wrong.
    """
    refuse_malformed(uri)
    if "://" not in uri:
        return
    address, query = split_query(uri)
    parts = urlsplit(address)
    named = [name for name, _ in parse_qsl(query[1:]) if name.lower() in SECRETS]
    if "@" in parts.netloc and parts.scheme in ("s3", "gs", "gcs", "http", "https", "abfs", "abfss"):
        is_container = parts.scheme.startswith("abfs") and ":" not in parts.netloc.partition("@")[0]
        named += [] if is_container else ["user:password@"]
    if named:
        raise ConfigError(
            "an address carries credentials",
            expected="an address alone; addresses are kept in results and logs",
            got=f"{', '.join(named)} in the address",
            where=f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}",
            fix="give them to every node by instance role or environment (AWS_ACCESS_KEY_ID and the like)",
        )


def resolve(uri: str) -> tuple[pafs.FileSystem, str]:
    """The filesystem of an address and the path inside it, for other libraries: its client retries by itself.

    Args:
        uri: A local path, or file:// s3:// gs:// hdfs://, or any scheme that fsspec knows.

    Raises:
        ArtifactError: the scheme is unknown or its client cannot start.
    """
    if (path := local_path(uri)) is not None:
        return pafs.LocalFileSystem(), str(path.expanduser().absolute())
    bucket, name = _split(uri)
    filesystem, root = _client(bucket)
    return filesystem, _below(root, name)


def locate(uri: str) -> tuple[pafs.FileSystem, str]:
    """The filesystem of an address and the path inside it, for use within `retry`: its client soon gives up.

    Clients are made once per process, bucket and query.

    Raises:
        ArtifactError: the scheme is unknown or its client cannot start.
    """
    if is_local(uri):
        return resolve(uri)
    bucket, name = _split(uri)
    filesystem, root = _cached_client(bucket, os.getpid())
    return filesystem, _below(root, name)


def _split(uri: str) -> tuple[str, str]:
    """The part of a URI that its client needs, and the name in the store."""
    address, query = split_query(uri)
    scheme, _, tail = address.partition("://")
    host, _, name = tail.partition("/")
    scheme = scheme.lower()
    return f"{_SAME_AS.get(scheme, scheme)}://{host}{query}", name


def _below(root: str, name: str) -> str:
    return f"{root.rstrip('/')}/{name}" if name else root


@lru_cache(maxsize=32)
def _cached_client(bucket: str, _process: int) -> tuple[pafs.FileSystem, str]:
    filesystem, root = _client(bucket)  # per process: clients do not survive a fork
    return _without_retries(filesystem), root


def _client(bucket: str) -> tuple[pafs.FileSystem, str]:
    try:
        filesystem, root = pafs.FileSystem.from_uri(bucket)
        return filesystem, root
    except pa.ArrowInvalid as unknown:
        return _through_fsspec(bucket, unknown)
    except OSError as error:
        raise ArtifactError(
            "storage cannot be opened", got=error, where=bucket, fix="check the address and your credentials"
        ) from error


def _through_fsspec(uri: str, unknown: Exception) -> tuple[pafs.FileSystem, str]:
    import fsspec  # only for schemes that Arrow does not know itself

    try:
        filesystem, path = fsspec.core.url_to_fs(uri)
    except (ValueError, ImportError) as error:
        raise ArtifactError(
            "storage address is not understood",
            expected="a local path, file://, s3://, gs://, or a scheme of an installed fsspec filesystem",
            got=unknown,
            where=uri,
            fix="check the part before ://",
        ) from error
    return pafs.PyFileSystem(pafs.FSSpecHandler(filesystem)), path


def _without_retries(filesystem: pafs.FileSystem) -> pafs.FileSystem:
    """An S3 client that gives up soon: one from a URI retries for minutes, whatever deadline `retry` has.

    Args:
        filesystem: Any; only S3 clients are replaced.
    """
    if not isinstance(filesystem, pafs.S3FileSystem):
        return filesystem
    _, (settings,) = filesystem.__reduce__()
    settings = {name: value for name, value in settings.items() if name != "proxy_options" or value["host"]}
    settings |= {"connect_timeout": CONNECT_S, "request_timeout": REQUEST_S}
    return pafs.S3FileSystem(
        **settings, retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS)
    )
