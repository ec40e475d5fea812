"""A worker tells the exception that another worker's end has caused from one of its own."""

from __future__ import annotations

import os
import signal
import socket
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from rayscan import comms

PATIENCE_SECONDS = 3.0


def worker(rank: int, port: int, fd: int | None, queue: Any, end: int, where: str) -> None:
    torch.set_num_threads(1)
    comms.join("gloo", (rank, 2), ("127.0.0.1", port), PATIENCE_SECONDS, fd)
    net = comms.data_parallel(nn.Linear(4, 1))
    net(torch.ones(2, 4)).sum().backward()
    if rank:
        os.kill(os.getpid(), end)
    try:
        if where == "backward":
            net(torch.ones(2, 4)).sum().backward()
        else:
            comms.all_reduce(torch.ones(3))
    except RuntimeError as error:
        queue.put(comms.is_peer_failure(error))
    else:
        queue.put("nothing was raised")
    os._exit(0)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("where", ["backward", "all_reduce"])
def test_a_worker_that_is_gone_or_silent_is_known_as_the_cause(end: int, where: str) -> None:
    opened = socket.create_server(("127.0.0.1", 0))
    port = opened.getsockname()[1]
    context = mp.get_context("fork")  # so that worker 0 has the socket
    queue = context.SimpleQueue()
    workers = [
        context.Process(target=worker, args=(r, port, None if r else opened.fileno(), queue, end, where))
        for r in (0, 1)
    ]
    for process in workers:
        process.start()
    is_known = queue.get()
    for process in workers:
        process.kill()
        process.join()
    assert is_known is True


@pytest.mark.parametrize(
    "error",
    [
        TypeError("no number"),
        KeyError("gid"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ConnectionResetError("a web server of the user's"),
        torch.OutOfMemoryError("CUDA out of memory"),
    ],
)
def test_an_own_exception_is_none(error: Exception) -> None:
    assert not comms.is_peer_failure(error)


def test_what_was_raised_while_a_peer_was_lost_has_the_same_cause() -> None:
    try:
        try:
            raise torch.distributed.DistNetworkError("gone")
        finally:
            len(3)  # type: ignore[arg-type]
    except TypeError as error:
        assert comms.is_peer_failure(error)
