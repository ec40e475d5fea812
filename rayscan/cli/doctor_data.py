"""`rayscan doctor DATA [--against RUN]`: what is there, and whether it still is what was indexed."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any

from rayscan.cli.mapping import mapper


def doctor_data(data: str, against: str | None, address: str | None = None) -> None:
    """Print what is there, and fail if images are lost, changed or doubled.

    Args:
        data: Shards, a folder, or a list.
        against: A run, or the directory of an index.
        address: Ray to join for large collections.

    Raises:
        DataError: the collection is not whole.
    """
    from rayscan.config import ImagesConfig
    from rayscan.data import doctor, verification
    from rayscan.errors import DataError
    from rayscan.stages.index import listed

    listing = listed(data)
    with ExitStack() as stack:
        apply = mapper(listing.size, address, stack)
        lines, is_whole = doctor.describe(
            listing, apply(doctor.examine, doctor.tasks(listing, ImagesConfig().max_pixels))
        )
        if against is not None:
            findings = verification.compare(_index_of(against), apply)
            lines += [f"changed: {finding}" for finding in findings[: doctor.MAX_LINES]]
            lines.append(f"{len(findings):,} differences from the index of {against}")
            is_whole = is_whole and not findings
    sys.stdout.write("\n".join(lines) + "\n")
    if not is_whole:
        raise DataError(
            "this collection is not whole",
            expected="whole shards, unique keys" + (", bytes as indexed" if against else ""),
            got="see above",
            where=data,
            fix="copy or write the shards that are named again",
        )


def _index_of(uri: str) -> Any:
    """The index of a run, or the artifact of an index directory."""
    from rayscan.artifacts import load
    from rayscan.errors import ArtifactError
    from rayscan.storage import Place

    place = Place(uri)
    if place.size("manifest.json") is not None:
        return load(place)
    found = [name for name in place.names() if name.startswith("index-")]
    whole = [n for n in found if place.child(n).size("manifest.json") is not None]
    if len(whole) != 1:
        raise ArtifactError(
            "there is not one index here",
            expected="a run with one finished index-*, or its directory",
            got=", ".join(whole) or "none",
            where=uri,
            fix="name the index directory itself",
        )
    return load(place.child(whole[0]))
