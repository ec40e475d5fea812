"""What a run found, in the formats of other programs: `rayscan export RUN --to FORMAT OUT`.

A format is one file in here with one function, and one line of the table below.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

from rayscan.errors import ArtifactError, ConfigError
from rayscan.exports.atlas import export_atlas
from rayscan.exports.cleanlab import export_cleanlab
from rayscan.exports.csv import export_csv
from rayscan.exports.cvat import export_cvat
from rayscan.exports.fiftyone import export_fiftyone
from rayscan.exports.folders import copied, hardlinked, symlinked
from rayscan.exports.huggingface import export_huggingface
from rayscan.exports.label_studio import export_label_studio
from rayscan.exports.onnx import export_onnx
from rayscan.exports.parquet import export_parquet
from rayscan.out_kinds import require_no_own_file
from rayscan.run import Run
from rayscan.storage import Place, split_uri

Exporter = Callable[[Run, str], str]
"""Writes a run to an address, which may be taken; returns a line that says what was written. An interrupted
one leaves nothing at the address, or what was there before."""

EXPORTERS: dict[str, Exporter] = {
    "csv": export_csv,
    "parquet": export_parquet,
    "folders": symlinked,
    "folders-hardlink": hardlinked,
    "folders-copy": copied,
    "atlas": export_atlas,
    "huggingface": export_huggingface,
    "fiftyone": export_fiftyone,
    "label-studio": export_label_studio,
    "cvat": export_cvat,
    "cleanlab": export_cleanlab,
    "onnx": export_onnx,
}
"""Name on the command line -> format."""


def export(run: Run, to: str, out: str, *, force: bool = False) -> str:
    """Write a run in another format.

    Args:
        run: A run with assignments, or the result of a prediction.
        to: Name of the format.
        out: File or directory, local or on an object store.
        force: Replace what is at `out`.

    Returns:
        A line that says what was written.

    Raises:
        ConfigError: there is no such format, or `out` is taken.
        ArtifactError: the run has no assignments, they cannot be read, or the export not written.
    """
    out = out.rstrip("/")
    if to not in EXPORTERS:
        near = difflib.get_close_matches(to, EXPORTERS, n=1)
        raise ConfigError(
            f"there is no format {to}",
            expected=", ".join(EXPORTERS),
            got=to,
            where="--to",
            fix=f"perhaps you meant {near[0]}" if near else "take one of these",
        )
    place, name = split_uri(out)
    if not force and (place.size(name) is not None or Place(out).names()):
        raise ConfigError(
            "there is something at OUT already",
            expected="an address that is free",
            got=out,
            where="OUT",
            fix="choose another one, or pass --force to replace it",
        )
    require_no_own_file(place, name)
    try:
        return EXPORTERS[to](run, out)
    except OSError as error:
        raise ArtifactError(
            "the export cannot be written",
            expected="a place with room, and the right to it",
            got=error,
            where=out,
            fix="make room, or choose another OUT",
        ) from error
