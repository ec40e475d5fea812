"""How requests of a service come together: closed when taken, in order, none lost, none held back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from rayscan.fleet.service_batches import Batches


class Work:
    """Notes its batches; each waits until the test lets it end."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gates: list[asyncio.Event] = []

    async def __call__(self, items: list[int]) -> Sequence[int]:
        gate = asyncio.Event()
        self.batches.append(items)
        self.gates.append(gate)
        await gate.wait()
        if -1 in items:
            raise ValueError("a bad item")
        return [10 * item for item in items]


async def settled() -> None:
    """Until all tasks wait for something that only the test gives."""
    for _ in range(50):
        await asyncio.sleep(0)


def test_what_comes_while_others_are_worked_on_goes_together() -> None:
    async def scenario() -> None:
        work = Work()
        batches = Batches(work, at_once=1, wait_seconds=0, share=lambda _: 1 / 8)
        asked = [asyncio.create_task(batches.ask(1))]
        await settled()
        for number in range(2, 14):  # one after the other, as requests come
            asked.append(asyncio.create_task(batches.ask(number)))
            await settled()
        assert work.batches == [[1]]
        for number in range(3):
            work.gates[number].set()
            await settled()
        assert work.batches == [[1], list(range(2, 10)), list(range(10, 14))]
        assert await asyncio.gather(*asked) == [10 * number for number in range(1, 14)]

    asyncio.run(scenario())


def test_as_many_at_once_as_allowed() -> None:
    async def scenario() -> None:
        work = Work()
        batches = Batches(work, at_once=3, wait_seconds=0, share=lambda _: 1.0)
        asked = [asyncio.create_task(batches.ask(number)) for number in range(5)]
        await settled()
        assert work.batches == [[0], [1], [2]]
        work.gates[1].set()
        await settled()
        assert work.batches[3:] == [[3]]
        for number in (0, 2, 3):
            work.gates[number].set()
        await settled()
        work.gates[4].set()
        assert await asyncio.gather(*asked) == [0, 10, 20, 30, 40]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ([0.5, 0.5, 0.5, 0.5, 0.5], [[0, 1], [2, 3], [4]]),
        ([0.1, 2.0, 0.1, 0.1], [[0], [1], [2, 3]]),  # a larger one goes alone
        ([0.2] * 11, [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10]]),
    ],
)
def test_no_batch_holds_more_than_its_share(shares: list[float], expected: list[list[int]]) -> None:
    async def scenario() -> list[list[int]]:
        work = Work()
        batches = Batches(work, at_once=1, wait_seconds=0, share=lambda item: shares[item])
        asked = [asyncio.create_task(batches.ask(number)) for number in range(len(shares))]
        await settled()
        while len(work.gates) > sum(gate.is_set() for gate in work.gates):
            work.gates[-1].set()
            await settled()
        await asyncio.gather(*asked)
        return work.batches

    assert asyncio.run(scenario()) == expected


def test_a_batch_is_cut_to_whole_chunks_and_the_rest_comes_next() -> None:
    async def scenario() -> list[list[int]]:
        work = Work()
        batches = Batches(work, at_once=1, wait_seconds=0, share=lambda _: 1 / 32, multiple=4)
        asked = [asyncio.create_task(batches.ask(number)) for number in range(11)]
        await settled()
        work.gates[0].set()
        await settled()
        work.gates[1].set()
        assert await asyncio.gather(*asked) == [10 * number for number in range(11)]
        return work.batches

    assert asyncio.run(scenario()) == [list(range(8)), [8, 9, 10]]


def test_a_batch_waits_to_fill_but_no_longer() -> None:
    async def scenario() -> list[list[int]]:
        work = Work()
        batches = Batches(work, at_once=2, wait_seconds=30.0, share=lambda _: 1 / 3)
        asked = []
        for number in range(3):
            asked.append(asyncio.create_task(batches.ask(number)))
            await settled()
            assert len(work.batches) == (number == 2)
        work.gates[0].set()
        await asyncio.gather(*asked)
        soon = Batches(work, at_once=1, wait_seconds=0.01, share=lambda _: 1 / 3)
        alone = asyncio.create_task(soon.ask(7))
        while len(work.gates) < 2:
            await asyncio.sleep(0.005)
        work.gates[1].set()
        assert await alone == 70
        return work.batches

    assert asyncio.run(scenario()) == [[0, 1, 2], [7]]


def test_an_error_is_that_of_its_batch_alone_and_who_went_away_costs_nothing() -> None:
    async def scenario() -> None:
        work = Work()
        batches = Batches(work, at_once=1, wait_seconds=0, share=lambda _: 0.5)
        first, bad, gone, good = (asyncio.create_task(batches.ask(number)) for number in (1, -1, 3, 4))
        await settled()
        gone.cancel()
        await settled()
        work.gates[0].set()
        await settled()
        work.gates[1].set()
        for task in (first, bad):
            with pytest.raises(ValueError, match="a bad item"):
                await task
        assert await good == 40
        assert work.batches == [[1, -1], [4]]

    asyncio.run(scenario())
