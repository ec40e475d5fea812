"""A replica of a service without Ray: what goes wrong with one request or one look concerns no other."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence

import pytest

from rayscan.config.serve import ServeConfig
from rayscan.fleet.service_replica import Replica
from rayscan.fleet.service_settings import Answer, Told

SETTINGS = ServeConfig(batch=8, threads=2, reload_seconds=0.01)


class Held:
    """Answers a body with its length; some bodies and some looks go wrong."""

    multiple = 4
    fingerprint = "f"

    def __init__(self) -> None:
        self.looks, self.batches = 0, list[int]()

    def prepare(self, content_type: str, body: bytes) -> Answer | int:
        if content_type == "text/plain":
            return 415, {"error": "no image"}
        if body == b"breaks":
            raise ZeroDivisionError
        return len(body)

    def answers(self, prepared: Sequence[int]) -> list[Answer]:
        self.batches.append(len(prepared))
        if 13 in prepared:
            raise MemoryError
        return [(200, {"images": [length]}) for length in prepared]

    def reload(self) -> bool:
        self.looks += 1
        if self.looks in (1, 3):
            raise KeyError("half a record")
        return False


def test_each_request_has_its_own_answer(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> list[Told]:
        replica = Replica(Held, SETTINGS)
        bodies = [b"x" * number for number in range(1, 6)]
        requests = [("image/png", body) for body in bodies]
        return await replica.answer([*requests, ("text/plain", b"a"), ("image/png", b"breaks")])

    with caplog.at_level(logging.ERROR, "ray.serve"):
        answers = asyncio.run(scenario())
    assert [status for status, _, _ in answers] == [200] * 5 + [415, 500]
    assert [json.loads(said) for _, said, _ in answers[:5]] == [{"images": [n]} for n in range(1, 6)]
    assert [images for _, _, images in answers] == [1] * 5 + [0, 0]
    assert all(json.loads(said)["error"] for _, said, _ in answers[5:])
    assert "ZeroDivisionError" in caplog.text


def test_a_batch_that_fails_is_told_so_and_the_next_one_is_answered() -> None:
    async def scenario() -> tuple[list[Told], list[Told]]:
        replica = Replica(Held, SETTINGS)
        return (
            await replica.answer([("image/png", b"x" * 13)]),
            await replica.answer([("image/png", b"xy")] * 11),
        )

    (failed,), answered = asyncio.run(scenario())
    assert failed[0] == 500
    assert [status for status, _, _ in answered] == [200] * 11


def test_a_look_for_edits_that_fails_is_said_and_not_the_last(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> int:
        replica = Replica(Held, SETTINGS)
        held = replica._held
        assert isinstance(held, Held)
        async with asyncio.timeout(30):
            while held.looks < 5:
                await asyncio.sleep(0.01)
        return held.looks

    with caplog.at_level(logging.ERROR, "ray.serve"):
        assert asyncio.run(scenario()) >= 5
    assert caplog.text.count("half a record") >= 2
