"""A service on Ray Serve: a door that reads requests, and replicas behind it that answer them in batches.

The door checks token and size and passes the body on; where a replica dies, it asks another one, so that no
request is lost. Replicas come and go with the load. What answers is made by a function of the caller, since
this room knows no models.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from rayscan.fleet.service_metrics import Counts

Answer: TypeAlias = tuple[int, dict[str, Any]]
"""HTTP status and JSON body."""
TRIES = 5
"""Replicas that are asked one after the other while they die."""
HEALTH_SECONDS = 10.0
HANDLED_AT_ONCE = 64
"""Requests a replica takes before others wait in the door."""


class Answering(Protocol):
    """What a replica holds; `prepare` is called by several threads, `answers` by one."""

    def prepare(self, content_type: str, body: bytes) -> Answer | Any:
        """What `answers` takes of a body, or the refusal of it."""

    def answers(self, prepared: Sequence[Any]) -> list[Answer]:
        """Answers of several requests, computed together."""

    def reload(self) -> bool:
        """Look whether the run changed."""

    @property
    def fingerprint(self) -> str:
        """What is served, in short."""


@dataclass(frozen=True)
class ServiceSettings:
    """How a service listens and grows."""

    token_sha256: str
    """Hash of the token that requests must bear, in hex; the token itself is kept nowhere."""
    max_bytes: int
    """Of one body."""
    batch: int
    """Requests computed together at most."""
    wait_seconds: float
    """Longest wait for a batch to fill."""
    min_replicas: int
    max_replicas: int
    cpus: float
    """Of each replica."""
    gpus: float
    reload_seconds: float
    """Between looks for edits."""


class Replica:
    """One process that answers."""

    def __init__(self, make: Callable[[], Answering], settings: ServiceSettings) -> None:
        """Load."""
        self._held = make()
        self._decoding, self._computing = ThreadPoolExecutor(2), ThreadPoolExecutor(1)
        self._batched.set_max_batch_size(settings.batch)
        self._batched.set_batch_wait_timeout_s(settings.wait_seconds)
        self._watch = asyncio.get_running_loop().create_task(self._reload(settings.reload_seconds))

    async def answer(self, content_type: str, body: bytes) -> Answer:
        """Answer one request."""
        loop = asyncio.get_running_loop()
        prepared = await loop.run_in_executor(self._decoding, self._held.prepare, content_type, body)
        if isinstance(prepared, tuple):
            return prepared
        answer: Answer = await self._batched(prepared)
        return answer

    async def fingerprint(self) -> str:
        """What is served."""
        return self._held.fingerprint

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.005)
    async def _batched(self, prepared: list[Any]) -> list[Answer]:
        return await asyncio.get_running_loop().run_in_executor(self._computing, self._held.answers, prepared)

    async def _reload(self, every: float) -> None:
        while True:
            await asyncio.sleep(every)
            await asyncio.get_running_loop().run_in_executor(self._decoding, self._held.reload)


class Door:
    """What HTTP requests come to."""

    def __init__(self, replicas: Any, settings: ServiceSettings) -> None:
        """Stand before replicas, a handle of theirs."""
        self._replicas, self._settings = replicas, settings
        self._counts = Counts()

    async def __call__(self, request: Request) -> Response:
        """Answer or refuse a request; whatever it holds, there is an answer."""
        began = time.perf_counter()
        path = request.url.path.rstrip("/")
        if path == "/health":
            return await self._health()
        try:
            status, said = await self._routed(request, path)
        except ClientDisconnect:
            status, said = 400, {"error": "the client went away"}
        self._counts.add(status, len(said.get("images", ())), time.perf_counter() - began)
        if path == "/metrics" and status == 200:
            return PlainTextResponse(self._counts.as_text())
        return JSONResponse(said, status)

    async def _routed(self, request: Request, path: str) -> Answer:
        if not self._is_known(request.headers.get("authorization", "")):
            return 401, {"error": "expected the header Authorization: Bearer TOKEN"}
        if path == "/metrics" and request.method == "GET":
            return 200, {}
        if path not in ("", "/classify"):
            return 404, {"error": "there are POST /classify, GET /health and GET /metrics"}
        if request.method != "POST":
            return 405, {"error": "expected POST"}
        body = await self._body(request)
        return body if isinstance(body, tuple) else await self._ask(request, body)

    def _is_known(self, header: str) -> bool:
        scheme, _, token = header.partition(" ")
        given = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).hexdigest()
        return hmac.compare_digest(given, self._settings.token_sha256) and scheme.lower() == "bearer"

    async def _body(self, request: Request) -> bytes | Answer:
        """The body, read no further than the limit."""
        limit, told = self._settings.max_bytes, request.headers.get("content-length", "0")
        too_large = 413, {"error": f"the body has more than {limit:,} bytes"}
        if told.isascii() and told.isdigit() and len(told) < 20 and int(told) > limit:
            return too_large
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                return too_large
        return bytes(body)

    async def _ask(self, request: Request, body: bytes) -> Answer:
        """Ask a replica; another one if it dies."""
        for number in range(TRIES):
            try:
                content_type = request.headers.get("content-type", "")
                answer: Answer = await self._replicas.answer.remote(content_type, body)
                return answer
            except RayActorError:
                self._counts.retried += 1
                await asyncio.sleep(0.1 * 2**number)
            except BackPressureError:
                break
        return 503, {"error": "no replica can answer now: try again"}

    async def _health(self) -> Response:
        with contextlib.suppress(RayActorError, BackPressureError, TimeoutError):
            found = await asyncio.wait_for(self._fingerprint(), HEALTH_SECONDS)
            return JSONResponse({"status": "ok", "assignments": found})
        return JSONResponse({"status": "no replica answers"}, 503)

    async def _fingerprint(self) -> str:
        found: str = await self._replicas.fingerprint.remote()
        return found


def application(make: Callable[[], Answering], settings: ServiceSettings) -> serve.Application:
    """The service as Ray Serve takes it.

    Args:
        make: Makes what answers, in the process of each replica; a function of a module, or a partial of one.
        settings: How it listens and grows.
    """
    scaling = {
        "min_replicas": settings.min_replicas,
        "max_replicas": settings.max_replicas,
        "target_ongoing_requests": max(1, settings.batch // 2),
    }
    replicas = serve.deployment(
        name="replicas",
        autoscaling_config=scaling,
        max_ongoing_requests=max(HANDLED_AT_ONCE, 2 * settings.batch),
        ray_actor_options={"num_cpus": settings.cpus, "num_gpus": settings.gpus},
        health_check_period_s=2.0,
    )(Replica)
    door = serve.deployment(
        name="door",
        num_replicas=1,
        max_ongoing_requests=1024,
        ray_actor_options={"num_cpus": 0},
    )(Door)
    return door.bind(replicas.bind(make, settings), settings)


def start(app: serve.Application, host: str, port: int) -> None:
    """Listen; Ray must have been joined or started.

    Args:
        app: From `application`.
        host: Interface that is listened on.
        port: TCP port.
    """
    serve.start(http_options={"host": host, "port": port, "location": "HeadOnly"})
    serve.run(app, name="rayscan", route_prefix="/")


def stop() -> None:
    """End the service; the Ray it ran on stays."""
    serve.shutdown()
