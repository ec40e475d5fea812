"""Workers meet on the address they are given and on no other; worker 0's words arrive."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp

from rayscan import comms
from rayscan.fleet.security import interface_of
from tests.ray.sockets import listening

WORDS = (None, "", "step-000000120-ab12", "with\nlines and \u00e4\u6f22", "x" * 5000)


def worker(rank: int, port: int, fd: int | None, queue: Any) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = str(interface_of("127.0.0.1"))
    comms.join("gloo", (rank, 2), ("127.0.0.1", port), 60.0, fd)
    heard = [comms.broadcast_text(word if rank == 0 else "not this") for word in WORDS]
    total = float(comms.all_reduce(torch.tensor([rank + 1.0])))
    addresses = [(s.address, s.is_closed_to_others) for s in listening(os.getpid())]
    comms.all_reduce(torch.zeros(1))  # nobody leaves before the other has looked
    queue.put((rank, heard, total, addresses))
    os._exit(0)


@pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="sockets are read from /proc")  # noqa: PTH110
def test_workers_meet_on_loopback_alone() -> None:
    opened = socket.create_server(("127.0.0.1", 0))
    port = opened.getsockname()[1]
    context = mp.get_context("fork")  # so that worker 0 has the socket
    queue = context.SimpleQueue()
    workers = [
        context.Process(target=worker, args=(r, port, opened.fileno() if r == 0 else None, queue))
        for r in (0, 1)
    ]
    for process in workers:
        process.start()
    answers = sorted(queue.get() for _ in workers)
    for process in workers:
        process.join()
    for rank, heard, total, addresses in answers:
        assert heard == list(WORDS)
        assert total == 3.0
        assert len(addresses) >= (2 if rank == 0 else 1), "its own, and the store's"
        assert all(is_closed for _, is_closed in addresses), addresses


def test_one_worker_hears_itself() -> None:
    assert [comms.broadcast_text(word) for word in WORDS] == list(WORDS)
