"""What an `--out` holds: a run, a prediction or packed shards. No command writes into what another kind made.

A run is what run, index, search, experiment and demo share; a prediction is what predict and transfer make.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rayscan import picture_formats
from rayscan.errors import ArtifactError, ConfigError
from rayscan.storage import Place, local_path, split_uri

RECORD = "run.json"
PLAN = "packed.parquet"
RUN, PREDICTION, SHARDS = "a run", "a prediction", "packed shards"
MANIFEST = "manifest.json"
ARTIFACT = "a result of a stage"
OWN_FILES = frozenset(
    {
        RECORD,
        PLAN,
        MANIFEST,
        ".lock",
        "recipe.json",
        "assignments.parquet",
        "clusters.json",
        "scores.json",
        "transfer.json",
    }
)
"""Names of files that a run, a prediction or packed shards keep for themselves."""
OWN_FOLDERS = frozenset({"report", "tensorboard", ".work"})
"""Names of folders that a run or a prediction keeps for itself, beside results of stages."""
SOURCES = picture_formats.READ | picture_formats.HEIC | picture_formats.JXL | {"zip"}
"""Ends of names that tell a folder of the user's own; shards are refused by who packs others there."""


def read_record(place: Place) -> dict[str, Any] | None:
    """The record of a run or a prediction; None if there is none.

    Raises:
        ArtifactError: it is no record: cut, or written by something else.
    """
    try:
        record = json.loads(place.read(RECORD))
        if not isinstance(record, dict):
            raise _bad_record(place, f"a {type(record).__name__}")
        is_right = isinstance(record["stages"], dict) and isinstance(record.get("sources", {}), dict)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise _bad_record(place, error) from error
    if not is_right:
        raise _bad_record(place, "other values")
    return dict(record)


def _bad_record(place: Place, got: object) -> ArtifactError:
    return ArtifactError(
        "the record of the run cannot be read",
        expected="a JSON object with stages and sources",
        got=got,
        where=place.uri_of(RECORD),
        fix="remove this file and run the same command again: finished stages are taken over",
    )


def kind_of_sources(sources: Mapping[str, Any]) -> str:
    """The kind of what was made of these sources: only a prediction has no train images."""
    return PREDICTION if sources.get("data", "") is None else RUN


def kind_of(record: Mapping[str, Any]) -> str:
    """The kind that a record says; those of earlier versions say it by their sources."""
    return str(record.get("kind") or kind_of_sources(record.get("sources", {})))


def kind_at(place: Place) -> str | None:
    """What a place holds; None if nothing that rayscan made, or not yet enough of it to tell.

    Raises:
        ArtifactError: there is a record that cannot be read.
    """
    record = read_record(place)
    if record is not None:
        return kind_of(record)
    if place.size(PLAN) is not None:
        return SHARDS
    return ARTIFACT if place.size(MANIFEST) is not None else None


def is_made_here(place: Place) -> bool:
    """Whether a place holds a run or a prediction; False for a file of that name that somebody else wrote."""
    try:
        return "rayscan" in (read_record(place) or {})
    except ArtifactError:
        return False


def require_out(place: Place, kind: str) -> None:
    """Refuse an `--out` that holds something of another kind, the user's pictures, or is no folder.

    Nothing is written.

    Args:
        place: Where a command is going to write.
        kind: RUN, PREDICTION or SHARDS.

    Raises:
        ConfigError: naming what is there.
        ArtifactError: there is a record that cannot be read.
    """
    if (file := _file_in_the_way(place)) is not None:
        raise ConfigError(
            "--out is no folder",
            expected="a folder, or an address where one can be made",
            got=f"the file {file}",
            where=place.uri,
            fix="choose another --out",
        )
    found = kind_at(place) or _own_folder(place) or _pictures_in_the_way(place)
    if found not in (None, kind):
        raise ConfigError(
            "there is something of another kind at --out",
            expected=f"an empty place, or one of {kind}",
            got=found,
            where=place.uri,
            fix="choose another --out; nothing was written",
        )


def _own_folder(place: Place) -> str | None:
    """Whose folder it is, where a run or a prediction has made it for itself; None for all others."""
    above, name = split_uri(place.uri)
    inside = kind_at(above) if name in OWN_FOLDERS and place.names() else None
    return None if inside is None else f"{name} of {inside}"


def _pictures_in_the_way(place: Place) -> str | None:
    """What a place without a result holds of the user: results must not come to lie among it."""
    shown = (name for name in place.names() if not name.startswith("."))
    found = [name for name in shown if _is_source(name)]
    return f"{len(found):,} pictures or archives, such as {found[0]!a}" if found else None


def _is_source(name: str) -> bool:
    return "." in name and name.lower().rpartition(".")[2] in SOURCES


def _file_in_the_way(place: Place) -> Path | None:
    """The nearest thing on a local path that exists, if it is no folder."""
    path = local_path(place.uri)
    if path is None:
        return None
    nearest = next((p for p in (path, *path.parents) if os.path.lexists(p)), path)
    return None if nearest.is_dir() else nearest


def require_no_own_file(place: Place, name: str) -> None:
    """Refuse to put a file where a run, a prediction or shards have their own, or a picture or archive lies.

    Args:
        place: The folder that the file is meant for.
        name: Of the file.

    Raises:
        ConfigError: naming what is there.
    """
    whole = _own_folder(place)
    inside = kind_at(place)
    at = kind_at(place.child(name))
    if at is None and _is_source(name) and place.size(name) is not None:
        at = "a picture or an archive"
    is_own = whole is not None or inside == ARTIFACT or (inside is not None and name in OWN_FILES)
    if at is None and not is_own:
        return
    raise ConfigError(
        "OUT belongs to something of another kind",
        expected="an address that no run or prediction uses itself",
        got=f"{at} itself" if at is not None else f"{name} of {inside or whole}",
        where=place.uri_of(name),
        fix="choose another address; nothing was written",
    )
