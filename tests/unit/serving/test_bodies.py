"""Bodies of requests: what a client's own encoder writes is taken, and what is no body of images is not."""

from __future__ import annotations

import base64
import json
import random

import httpx
import pytest

from rayscan.serving.bodies import Received, images_in
from rayscan.serving.refusal import RefusalError

MOST = 8


def files(seed: int, count: int) -> list[bytes]:
    """Bytes with everything that separates parts in them, but not the boundary."""
    draw = random.Random(seed)
    pieces = [b"\r\n", b"--", b"\r\n\r\n", b"\n", b"\r", b"\x00", b"\xff\xd8\xff", b"boundary="]
    return [b"".join(draw.choice([*pieces, draw.randbytes(9)]) for _ in range(40)) for _ in range(count)]


def status_of(content_type: str, body: bytes) -> int:
    with pytest.raises(RefusalError) as refused:
        images_in(content_type, body, MOST)
    return refused.value.status


@pytest.mark.parametrize("seed", range(20))
def test_multipart_as_a_client_writes_it(seed: int) -> None:
    sent = files(seed, 1 + seed % MOST)
    parts = [("images", (f'{n} "a".jpg', data, "image/jpeg")) for n, data in enumerate(sent)]
    request = httpx.Request("POST", "http://x/", files=parts)
    found = images_in(request.headers["content-type"], request.read(), MOST)
    assert [image.data for image in found] == sent


@pytest.mark.parametrize("seed", range(5))
def test_json_with_base64_and_addresses(seed: int) -> None:
    sent = files(seed, 3)
    images = [{"data": base64.b64encode(data).decode()} for data in sent] + [{"uri": "s3://b/a.jpg"}]
    found = images_in("application/json; charset=utf-8", json.dumps({"images": images}).encode(), MOST)
    assert found == [*(Received(data) for data in sent), Received(uri="s3://b/a.jpg")]


@pytest.mark.parametrize("kind", ["image/jpeg", "IMAGE/PNG", "application/octet-stream"])
def test_a_body_that_is_a_picture(kind: str) -> None:
    assert images_in(kind, b"abc", MOST) == [Received(b"abc")]


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("", b"abc", 415),
        ("text/html", b"abc", 415),
        ("image/jpeg", b"", 400),
        ("application/json", b"", 400),
        ("application/json", b"{", 400),
        ("application/json", b"[" * 100_000, 400),
        ("application/json", b"\xff\xfe\x00", 400),
        ("application/json", b"[]", 400),
        ("application/json", b'{"images": {}}', 400),
        ("application/json", b'{"images": []}', 400),
        ("application/json", b'{"images": ["x"]}', 400),
        ("application/json", b'{"images": [{"data": "***"}]}', 400),
        ("application/json", b'{"images": [{"data": "\\u00e9"}]}', 400),
        ("application/json", b'{"images": [{"data": "QQ==", "uri": "s3://b/a"}]}', 400),
        ("application/json", b'{"images": [{"uri": 5}]}', 400),
        ("application/json", json.dumps({"images": [{"data": "QQ=="}] * (MOST + 1)}).encode(), 413),
        ("multipart/form-data", b"abc", 400),
        ("multipart/form-data; boundary=x", b"", 400),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nabc", 400),
        ("multipart/form-data; boundary=x", b"--x\r\nno end of headers\r\n--x--", 400),
        ("multipart/form-data; boundary=x", b"--x--", 400),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\na\r\n" * (MOST + 1) + b"--x--", 413),
    ],
)
def test_what_is_no_body_of_images_is_refused(content_type: str, body: bytes, status: int) -> None:
    assert status_of(content_type, body) == status
