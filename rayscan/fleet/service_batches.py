"""Requests gathered into batches: what comes while others are worked on goes together when its turn comes.

`@serve.batch` of Ray Serve closes a batch as soon as its wait is over, though nothing is free to take
it: under load its batches hold what came within some milliseconds. Here a batch is closed when it is taken.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batches(Generic[T, R]):
    """Items that wait, and tasks that take them, some batches at once; of one event loop."""

    def __init__(
        self,
        work: Callable[[list[T]], Awaitable[Sequence[R]]],
        *,
        at_once: int,
        wait_seconds: float,
        share: Callable[[T], float],
        multiple: int = 1,
    ) -> None:
        """Begin with none.

        Args:
            work: Items -> a result of each, in order.
            at_once: Batches worked on at the same time.
            wait_seconds: Longest wait for a batch to fill.
            share: Of a batch that an item takes: a batch holds items of 1 together, or a single larger one.
            multiple: A batch of more items is cut to a multiple of it; the rest goes with the next.
        """
        self._work, self._share, self._multiple = work, share, multiple
        self._wait_seconds = wait_seconds
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._waits_for = 0.0
        self._free = at_once
        self._is_full, self._gathering = asyncio.Event(), asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, item: T) -> R:
        """The result of an item.

        Raises:
            Exception: what the work on its batch raised.
        """
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._waits_for += self._share(item)
        if self._waits_for >= 1:
            self._is_full.set()
        if self._free:
            self._free -= 1
            task = asyncio.create_task(self._take_turns())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def _take_turns(self) -> None:
        """Work on batches while anything waits."""
        try:
            while self._waiting:
                async with self._gathering:
                    if self._wait_seconds and not self._is_full.is_set():
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(self._is_full.wait(), self._wait_seconds)
                    batch = self._taken()
                if batch:
                    await self._answer(batch)
        finally:
            self._free += 1

    def _taken(self) -> list[tuple[T, asyncio.Future[R]]]:
        """Take a batch of what waits, in order; an item that nobody waits for any more is dropped."""
        batch: list[tuple[T, asyncio.Future[R]]] = []
        used = 0.0
        while self._waiting:
            item, future = self._waiting[0]
            share = self._share(item)
            if batch and used + share > 1 + 1e-9:
                break
            self._waiting.popleft()
            self._waits_for -= share
            if not future.done():
                batch.append((item, future))
                used += share
        if len(batch) > self._multiple and (over := len(batch) % self._multiple):
            for one in reversed(batch[-over:]):
                self._waiting.appendleft(one)
                self._waits_for += self._share(one[0])
            del batch[-over:]
        if self._waits_for < 1:
            self._is_full.clear()
        return batch

    async def _answer(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            results = await self._work([item for item, _ in batch])
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
