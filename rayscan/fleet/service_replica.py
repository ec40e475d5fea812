"""A replica of a service: decodes some requests while it computes others."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rayscan.config.serve import ServeConfig
from rayscan.fleet.service_batches import Batches
from rayscan.fleet.service_settings import Answer, Answering, Asked, Told

log = logging.getLogger("ray.serve")


class Replica:
    """One process that answers."""

    def __init__(self, make: Callable[[], Answering], config: ServeConfig) -> None:
        """Load."""
        self._held = make()
        self._decoding = ThreadPoolExecutor(max(2, config.threads))
        self._computing, self._looking = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._batches: Batches[Any, Answer] = Batches(
            self._computed,
            at_once=1,
            wait_seconds=config.wait_ms / 1000,
            share=lambda _: 1 / config.batch,
            multiple=min(self._held.multiple, config.batch),
        )
        self._watch = asyncio.get_running_loop().create_task(self._reload(config.reload_seconds))

    async def answer(self, requests: list[Asked]) -> list[Told]:
        """Answer some requests; what goes wrong with one concerns no other."""
        return await asyncio.gather(*(self._one(*request) for request in requests))

    async def fingerprint(self) -> str:
        """What is served."""
        return self._held.fingerprint

    async def _one(self, content_type: str, body: bytes) -> Told:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._decoding, self._held.prepare, content_type, body)
            if not isinstance(found, tuple):
                found = await self._batches.ask(found)
        except Exception:
            log.exception("a request ended with an error of the service")
            found = 500, {"error": "the service failed: its log says why"}
        status, said = found
        return status, json.dumps(said, separators=(",", ":")).encode(), len(said.get("images", ()))

    async def _computed(self, prepared: list[Any]) -> list[Answer]:
        return await asyncio.get_running_loop().run_in_executor(self._computing, self._held.answers, prepared)

    async def _reload(self, every: float) -> None:
        """Look for edits for ever: an error is said and the next look may find the run whole again."""
        while True:
            await asyncio.sleep(every)
            try:
                await asyncio.get_running_loop().run_in_executor(self._looking, self._held.reload)
            except Exception:
                log.exception("edits of the run could not be read: what was served before still is")
