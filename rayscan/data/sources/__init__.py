"""The table of the formats that images come in, one file each; `base` says what each has to do."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from rayscan.data.sources.base import Format, ListFormat
from rayscan.data.sources.files import ImageFiles
from rayscan.data.sources.parquet import ParquetImages
from rayscan.data.sources.table import TableOfNames
from rayscan.data.sources.tar import Tar
from rayscan.data.sources.zip import Zip

IMAGE_FILES = ImageFiles()
FORMATS: tuple[Format, ...] = (Tar(), ParquetImages(), Zip(), IMAGE_FILES)
"""Formats of files that hold images; the first that claims a file has it."""
LISTS: tuple[ListFormat, ...] = (TableOfNames(),)
"""Formats of files that name images."""


def format_of(uri: str) -> Format | None:
    """The format of a file by its name; None if it holds no images that are understood."""
    return next((known for known in FORMATS if known.claims(uri)), None)


def named_format(uri: str) -> Format:
    """The format of a file that a list or an index names: one image, whatever its name, if none claims it."""
    return format_of(uri) or IMAGE_FILES


def holds_images(uri: str, column: str | None) -> bool:
    """Whether a file holds images, for which it may have to be opened.

    Args:
        uri: Address of the file.
        column: The column with the images, if the user named one.
    """
    known = format_of(uri)
    return known is not None and bool((known if column is None else known.with_column(column)).holding([uri]))


def usable(
    by_format: Mapping[Format, Sequence[str]], named: Collection[str], column: str | None
) -> tuple[dict[Format, list[str]], list[str]]:
    """Those of the files that hold images for us, and the others.

    Args:
        by_format: Files by the format that claims them.
        named: Files that the user named one by one; files that were found give way to such of other formats.
        column: The column with the images, if the user named one.

    Raises:
        ConfigError: a column was named, and the files have none.
        DataError: which column has the images cannot be told.
    """
    kept: dict[Format, list[str]] = {}
    left: list[str] = []
    is_alone = all(one.gives_way for one in by_format)
    for known in (one for one in FORMATS if one in by_format):
        asked = known if column is None else known.with_column(column)
        uris = [uri for uri in by_format[known] if is_alone or not known.gives_way or uri in named]
        holding = asked.holding(uris)
        left += sorted({*by_format[known]} - {*holding})
        if holding:
            kept[asked] = list(holding)
    return kept, left


def list_of(uri: str) -> ListFormat | None:
    """The format of a list of images by its name; None if it is no list."""
    return next((known for known in LISTS if known.claims(uri)), None)


def with_folders(source: str) -> str:
    """The source of an image as a path: a file of many images and its member are folder and file."""
    for suffix in (suffix for known in FORMATS if known.has_many for suffix in known.suffixes):
        source = source.replace(f"{suffix}#", f"{suffix}/")
    return source
