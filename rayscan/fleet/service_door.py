"""The door of a service: it reads HTTP requests, checks token and size, and has replicas answer.

Requests that come together are sent on in one call, since a call costs as much as decoding a picture. Where a
replica dies, others are asked, so that no request is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import socket
import time
from typing import Any

import uvicorn
from ray.exceptions import ObjectLostError, RayActorError
from ray.serve.exceptions import BackPressureError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from rayscan.fleet.listening import bound
from rayscan.fleet.service_batches import Batches
from rayscan.fleet.service_metrics import Counts
from rayscan.fleet.service_settings import Asked, ServiceSettings, Told

TRIES = 5
"""Replicas that are asked one after the other while they die."""
DEATHS = (RayActorError, ObjectLostError)
HEALTH_SECONDS = 10.0
CALLS_PER_REPLICA = 2
"""One is decoded while another is computed."""
MOST_AT_ONCE = 1024
"""Requests; more are refused."""


class Door:
    """What HTTP requests come to."""

    def __init__(self, replicas: Any, settings: ServiceSettings) -> None:
        """Stand before replicas, a handle of theirs, and listen if the settings say where.

        Raises:
            FleetError: the address is taken, or none of this machine.
        """
        config = settings.config
        self._replicas, self._token_sha256, self._max_bytes = (
            replicas,
            settings.token_sha256,
            config.max_bytes,
        )
        self._counts = Counts()
        self._batches: Batches[Asked, Told] = Batches(
            self._ask,
            at_once=CALLS_PER_REPLICA * config.max_replicas,
            wait_seconds=config.wait_ms / 1000,
            share=lambda asked: max(1 / config.batch, len(asked[1]) / config.max_bytes),
        )
        self._listening: asyncio.Task[None] | None = None
        if settings.listens:
            serving = _serve(self, bound(config.host, config.port))
            self._listening = asyncio.get_running_loop().create_task(serving)

    async def __call__(self, request: Request) -> Response:
        """Answer or refuse a request; whatever it holds, there is an answer."""
        began = time.perf_counter()
        path = request.url.path.rstrip("/")
        if path == "/health":
            return await self._health()
        try:
            status, said, images = await self._routed(request, path)
        except ClientDisconnect:
            status, said, images = _refusal(400, "the client went away")
        self._counts.add(status, images, time.perf_counter() - began)
        if path == "/metrics" and status == 200:
            return PlainTextResponse(self._counts.as_text())
        return Response(said, status, media_type="application/json")

    def check_health(self) -> None:
        """Tell Ray Serve to start the door again where it no longer listens."""
        if self._listening is not None and self._listening.done():
            raise RuntimeError("the door does not listen any more")

    async def _routed(self, request: Request, path: str) -> Told:
        if not self._is_known(request.headers.get("authorization", "")):
            return _refusal(401, "expected the header Authorization: Bearer TOKEN")
        if path == "/metrics" and request.method == "GET":
            return 200, b"", 0
        if path not in ("", "/classify"):
            return _refusal(404, "there are POST /classify, GET /health and GET /metrics")
        if request.method != "POST":
            return _refusal(405, "expected POST")
        body = await self._body(request)
        if body is None:
            return _refusal(413, f"the body has more than {self._max_bytes:,} bytes")
        return await self._batches.ask((request.headers.get("content-type", ""), body))

    def _is_known(self, header: str) -> bool:
        scheme, _, token = header.partition(" ")
        given = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).hexdigest()
        return hmac.compare_digest(given, self._token_sha256) and scheme.lower() == "bearer"

    async def _body(self, request: Request) -> bytes | None:
        """The body, read no further than the limit; None where it is larger."""
        limit, told = self._max_bytes, request.headers.get("content-length", "0")
        if told.isascii() and told.isdigit() and len(told) < 20 and int(told) > limit:
            return None
        chunks: list[bytes] = []
        size = 0
        async for chunk in request.stream():
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                return None
        return b"".join(chunks)

    async def _ask(self, requests: list[Asked]) -> list[Told]:
        """Ask a replica; if it dies, others, each request by itself: one of them may be the reason."""
        try:
            answers: list[Told] = await self._replicas.answer.remote(requests)
        except DEATHS:
            self._counts.retried += len(requests)
            return await asyncio.gather(*(self._ask_again(request) for request in requests))
        except BackPressureError:
            return [NOT_NOW] * len(requests)
        return answers

    async def _ask_again(self, request: Asked) -> Told:
        for number in range(TRIES - 1):
            await asyncio.sleep(0.1 * 2**number)
            try:
                (answer,) = await self._replicas.answer.remote([request])
            except DEATHS:
                self._counts.retried += number < TRIES - 2
            except BackPressureError:
                break
            else:
                found: Told = answer
                return found
        return NOT_NOW

    async def _health(self) -> Response:
        status, said = 503, {"status": "no replica answers"}
        with contextlib.suppress(*DEATHS, BackPressureError, TimeoutError):
            found = await asyncio.wait_for(self._fingerprint(), HEALTH_SECONDS)
            status, said = 200, {"status": "ok", "assignments": found}
        return Response(json.dumps(said), status, media_type="application/json")

    async def _fingerprint(self) -> str:
        found: str = await self._replicas.fingerprint.remote()
        return found


def _refusal(status: int, reason: str) -> Told:
    return status, json.dumps({"error": reason}).encode(), 0


NOT_NOW = _refusal(503, "no replica can answer now: try again")


async def _serve(door: Door, listening: socket.socket) -> None:
    """Take requests of a socket in the process of the door.

    A proxy of Ray Serve before it would take more CPU time a request than the network does
    (docs/results/serving.md).
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await door(Request(scope, receive))
        await response(scope, receive, send)

    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        limit_concurrency=MOST_AT_ONCE,
    )
    with listening:
        await uvicorn.Server(config).serve([listening])
