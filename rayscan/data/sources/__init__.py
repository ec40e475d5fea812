"""The table of the formats that images come in, one file each; `base` says what each has to do."""

from __future__ import annotations

from rayscan.data.sources.base import Format, ListFormat
from rayscan.data.sources.files import ImageFiles
from rayscan.data.sources.table import TableOfNames
from rayscan.data.sources.tar import Tar

IMAGE_FILES = ImageFiles()
FORMATS: tuple[Format, ...] = (Tar(), IMAGE_FILES)
"""Formats of files that hold images; the first that claims a file has it."""
LISTS: tuple[ListFormat, ...] = (TableOfNames(),)
"""Formats of files that name images."""


def format_of(uri: str) -> Format | None:
    """The format of a file by its name; None if it holds no images that are understood."""
    return next((known for known in FORMATS if known.claims(uri)), None)


def named_format(uri: str) -> Format:
    """The format of a file that a list or an index names: one image, whatever its name, if none claims it."""
    return format_of(uri) or IMAGE_FILES


def list_of(uri: str) -> ListFormat | None:
    """The format of a list of images by its name; None if it is no list."""
    return next((known for known in LISTS if known.claims(uri)), None)


def with_folders(source: str) -> str:
    """The source of an image as a path: a file of many images and its member are folder and file."""
    for suffix in (suffix for known in FORMATS if known.has_many for suffix in known.suffixes):
        source = source.replace(f"{suffix}#", f"{suffix}/")
    return source
