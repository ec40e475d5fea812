"""Columns of a Parquet file that holds images: which one has the bytes, which one names them.

Hugging Face stores an image as struct{bytes: binary, path: string}; others have a plain binary column.
"""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from rayscan.errors import DataError

USUAL_NAMES = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "photo")
"""Names that settle it where several columns hold bytes."""
_ADDRESSES = ("uri", "path")


class ImageColumn(NamedTuple):
    """Where the images of a Parquet file are."""

    name: str
    """The column with the encoded images."""
    is_struct: bool
    """Whether the bytes are the field `bytes` of a struct."""
    has_path: bool
    """Whether that struct names the images by a field `path`."""
    has_id: bool
    """Whether there is a column `id` with the user's own names."""

    @property
    def data(self) -> str:
        """Path of the leaf column with the bytes."""
        return f"{self.name}.bytes" if self.is_struct else self.name

    @property
    def leaves(self) -> list[str]:
        """Paths of all leaf columns that are read."""
        return [self.data, *[f"{self.name}.path"] * self.has_path, *["id"] * self.has_id]


def image_column(schema: pa.Schema, asked: str | None, where: str) -> ImageColumn | None:
    """Find the column with the images.

    Args:
        schema: Of the file.
        asked: Name of the column, if the user gave one.
        where: Address of the file, for messages.

    Returns:
        None if no column holds bytes, or if the table is a list: it has addresses, and no column was asked.

    Raises:
        DataError: the column asked is not there or holds no bytes, or several could be meant.
    """
    if asked is None and any(
        name in _ADDRESSES and _is_text(schema.field(name).type) for name in schema.names
    ):
        return None
    found = [field.name for field in schema if _is_binary(_bytes_of(field.type))]
    if asked is not None and asked not in found:
        raise DataError(
            "no such image column",
            expected="a binary column, or a struct with a field bytes"
            + (f": {', '.join(found)}" if found else ""),
            got=f"{asked} ({schema.field(asked).type})" if asked in schema.names else asked,
            where=where,
            fix="name another one with --image-column",
        )
    usual = [name for name in found if name.lower() in USUAL_NAMES]
    chosen = [asked] if asked is not None else usual if len(usual) == 1 else found
    if len(chosen) > 1:
        raise DataError(
            "several columns hold bytes",
            expected="one column of images",
            got=", ".join(chosen),
            where=where,
            fix="name the one with the images: --image-column NAME",
        )
    return _column(schema, chosen[0]) if chosen else None


def _column(schema: pa.Schema, name: str) -> ImageColumn:
    kind = schema.field(name).type
    is_struct = pa.types.is_struct(kind)
    at = kind.get_field_index("path") if is_struct else -1
    own = schema.field("id").type if "id" in schema.names else pa.null()
    return ImageColumn(
        name, is_struct, at >= 0 and _is_text(kind.field(at).type), _is_text(own) or pa.types.is_integer(own)
    )


def _bytes_of(kind: pa.DataType) -> pa.DataType:
    """The type of the field `bytes` of a struct; any other type as it is."""
    if not pa.types.is_struct(kind):
        return kind
    at = kind.get_field_index("bytes")
    return kind.field(at).type if at >= 0 else kind


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
