"""Addresses that a request may name: below the prefixes the service was started with, and nothing else.

A prefix is a folder on storage, such as `s3://bucket/photos`, or a local one. What is never read: http and
https, so that the service asks no host that a request names; an address with a query, which could name
another endpoint, or with `..`; a local link that leads out of its prefix.
"""

from __future__ import annotations

import re
from pathlib import Path

from rayscan.errors import ConfigError, RayscanError
from rayscan.serving.refusal import RefusalError
from rayscan.storage import Place, is_local, split_query, split_uri, with_query

_ODD = re.compile(r"[\x00-\x1f\x7f?#@\\%]|/\.{1,2}(?:/|$)|(?<!:)//")
_WEB = re.compile(r"(?:https?|ftp)\b", re.IGNORECASE)


class Stores:
    """The prefixes below which addresses are read."""

    def __init__(self, prefixes: tuple[str, ...] = ()) -> None:
        """Take prefixes.

        Raises:
            ConfigError: one is of the web, or no folder.
        """
        for prefix in prefixes:
            if _WEB.match(prefix) or not prefix.strip("/"):
                raise ConfigError(
                    "--allow-store takes folders on storage",
                    expected="such as s3://bucket/photos, gs://... or /photos",
                    got=prefix,
                    where="--allow-store",
                    fix="name the folder that holds the images",
                )
        self._prefixes = tuple(_Prefix(prefix) for prefix in prefixes)

    def read(self, uri: str, max_bytes: int) -> bytes:
        """The file at an address.

        Raises:
            RefusalError: 403 for an address that is not allowed, 404 without a file, 413 for a large one.
        """
        found = None if _ODD.search(uri) else next((p for p in self._prefixes if p.holds(uri)), None)
        if found is None:
            raise RefusalError(403, "the address is not below a prefix that --allow-store names")
        place, name = split_uri(found.complete(uri))
        try:
            size = place.size(name)
            if size is not None and size <= max_bytes:
                return place.read(name)
        except (OSError, RayscanError) as error:
            raise RefusalError(404, "the address cannot be read") from error
        if size is None:
            raise RefusalError(404, "there is no file at the address")
        raise RefusalError(413, f"the file at the address has more than {max_bytes:,} bytes")


class _Prefix:
    def __init__(self, prefix: str) -> None:
        address, self._query = split_query(prefix)
        self._is_local = is_local(address)
        self._address = str(Path(Place(address).uri).resolve()) if self._is_local else address.rstrip("/")

    def holds(self, uri: str) -> bool:
        """Whether an address without odd characters lies below."""
        if not uri.startswith(f"{self._address}/"):
            return False
        return not self._is_local or Path(uri).resolve().is_relative_to(self._address)

    def complete(self, uri: str) -> str:
        """The address with the query of its prefix; of a local file, where links lead to."""
        if self._is_local:
            return str(Path(uri).resolve())
        return with_query(uri, self._query) if self._query else uri
