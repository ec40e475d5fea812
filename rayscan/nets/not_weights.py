"""What a file is that should have been a checkpoint and is none: a web page, a pointer, a cut file."""

from __future__ import annotations

import json
import zipfile
from io import BytesIO

_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF")
_KINDS = (
    (b"version https://git-lfs", "a Git LFS pointer", "fetch the file itself: git lfs pull"),
    (b"\x1f\x8b", "a gzip archive", "unpack it"),
    (b"BZh", "a bzip2 archive", "unpack it"),
    (b"\xfd7zXZ\0", "an xz archive", "unpack it"),
    (b"Rar!", "a RAR archive", "unpack it"),
    (b"\x89HDF", "an HDF5 file, as Keras writes it", "convert it to safetensors where it was made"),
    (b"GGUF", "a GGUF file", "take the weights in safetensors"),
    (b"\x08", "an ONNX model", "take the weights the model was exported from"),
)
"""Beginning, what that is, what to do."""
_AGAIN = "download or copy it again, and compare its size with that of the source"
_HEADER = 1 << 26
"""More bytes than any header of safetensors has."""


def described(data: bytes) -> tuple[str, str] | None:
    """What the bytes are and what to do, if that can be told; None if they may be a checkpoint.

    Args:
        data: The whole file.
    """
    if not data:
        return "an empty file", _AGAIN
    if not any(data):
        return f"{len(data):,} zero bytes", _AGAIN
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start[:1] == b"<":
        return "a web page or XML, perhaps the page of a login or an error", _AGAIN
    for mark, what, fix in _KINDS:
        if data.startswith(mark):
            return what, fix
    if data.startswith(_PICTURES):
        return "a picture", "name the file of weights"
    if data.startswith(b"PK"):
        return _broken_zip(data)
    return _cut_safetensors(data) or _plain_text(data)


def _broken_zip(data: bytes) -> tuple[str, str] | None:
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return f"a torch file or zip that is cut or damaged after {len(data):,} bytes", _AGAIN
    if not any(name.endswith("data.pkl") for name in names):
        return (
            f"a zip of {', '.join(names[:3]) or 'nothing'}",
            "unpack it, and name the file of weights in it",
        )
    return None


def _cut_safetensors(data: bytes) -> tuple[str, str] | None:
    length = int.from_bytes(data[:8], "little")
    if not (len(data) > 8 and 2 <= length <= _HEADER and data[8:9] == b"{"):
        return None
    what = f"safetensors that are cut or damaged after {len(data):,} bytes"
    try:
        header = json.loads(data[8 : 8 + length])
        last = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return what, _AGAIN
    return None if len(data) == 8 + length + last else (f"{what} of {8 + length + last:,}", _AGAIN)


def _plain_text(data: bytes) -> tuple[str, str] | None:
    try:
        text = data[:1024].decode()
    except UnicodeDecodeError:
        return None
    if not text.isprintable() and not all(c.isprintable() or c in "\r\n\t" for c in text):
        return None
    first = text.strip().splitlines()[0] if text.strip() else ""
    return f"text that begins with {first[:60]!r}", "name the file of weights"
