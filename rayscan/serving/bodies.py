"""The images of a request: files in its body, or addresses; or the reason why there are none.

- a picture by itself, of any `image/*` or `application/octet-stream`
- `multipart/form-data` (RFC 7578), a picture a part
- JSON, `{"images": [{"data": BASE64} or {"uri": ADDRESS}, ...]}`

Nothing is decoded here; sizes are checked before anything is copied.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rayscan.serving.refusal import RefusalError

JSON = "application/json"
MULTIPART = "multipart/form-data"
RAW = "application/octet-stream"
_BOUNDARY = re.compile(r'boundary=(?:"([^"\r\n]{1,70})"|([^\s;"]{1,70}))(?:;|$)')
_HEADERS_END = b"\r\n\r\n"
MOST_HEADER_BYTES = 8192


@dataclass(frozen=True)
class Received:
    """One image of a request: a file, or where one is."""

    data: bytes = b""
    uri: str | None = None


def images_in(content_type: str, body: bytes, max_images: int) -> list[Received]:
    """The images of a body, in order.

    Args:
        content_type: Of the body, as the header says it.
        body: All of it.
        max_images: Of one request.

    Raises:
        RefusalError: 400 for a body that is not what it says, 413 for too many images, 415 for another type.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == JSON:
        found = list(_in_json(body, max_images))
    elif kind == MULTIPART:
        found = list(_in_parts(content_type, body, max_images))
    elif kind == RAW or kind.startswith("image/"):
        found = [Received(body)] if body else []
    else:
        raise RefusalError(
            415, f"content type {kind[:80]!r}: expected {JSON}, {MULTIPART}, {RAW} or image/..."
        )
    if not found:
        raise RefusalError(400, "there is no image in the body")
    return found


def _in_json(body: bytes, max_images: int) -> Iterator[Received]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusalError(400, "the body is no JSON") from error
    images = value.get("images") if isinstance(value, dict) else None
    if not isinstance(images, list):
        raise RefusalError(400, 'expected {"images": [...]}')
    _require_few(len(images), max_images)
    for number, image in enumerate(images):
        yield _from_json(image, number)


def _from_json(image: Any, number: int) -> Received:
    match image:
        case {"data": str(text)} if len(image) == 1:
            try:
                return Received(base64.b64decode(text, validate=True))
            except (binascii.Error, ValueError) as error:
                raise RefusalError(400, f"image {number}: data is no base64") from error
        case {"uri": str(uri)} if len(image) == 1:
            return Received(uri=uri)
    raise RefusalError(400, f'image {number}: expected {{"data": BASE64}} or {{"uri": ADDRESS}}')


def _in_parts(content_type: str, body: bytes, max_images: int) -> Iterator[Received]:
    named = _BOUNDARY.search(content_type)
    if named is None:
        raise RefusalError(400, "multipart without a boundary")
    mark = b"\r\n--" + (named[1] or named[2]).encode("latin-1", "replace")
    parts = (b"\r\n" + body).split(mark, max_images + 2)
    if len(parts) < 2 or not parts[-1].startswith(b"--"):
        _require_few(len(parts) - 1, max_images)
        raise RefusalError(400, "multipart without its end: the body is cut, or has another boundary")
    _require_few(len(parts) - 2, max_images)
    for number, part in enumerate(parts[1:-1]):
        at = part.find(_HEADERS_END, 0, MOST_HEADER_BYTES)
        if at < 0:
            raise RefusalError(400, f"part {number} has no end of its headers")
        yield Received(part[at + len(_HEADERS_END) :])


def _require_few(count: int, max_images: int) -> None:
    if count > max_images:
        raise RefusalError(413, f"more than {max_images} images in one request")
