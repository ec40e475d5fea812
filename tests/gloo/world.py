"""A world of gloo processes on this machine, started once and asked many questions."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def run_in_world(world_size: int, fn: Callable[..., Any], *args: Any) -> list[Any]:
    """`fn(rank, *args)` on every rank of a gloo world; what each returned, in rank order."""
    context = mp.get_context("spawn")
    queue = context.SimpleQueue()
    store = dist.TCPStore("127.0.0.1", 0, world_size + 1, is_master=True, wait_for_workers=False)
    workers = [
        context.Process(target=_worker, args=(rank, world_size, store.port, queue, fn, args), daemon=True)
        for rank in range(world_size)
    ]
    for worker in workers:
        worker.start()
    results: dict[int, Any] = {}
    for _ in workers:
        rank, is_right, value = queue.get()
        if not is_right:
            for worker in workers:
                worker.kill()
            raise AssertionError(f"rank {rank}:\n{value}")
        results[rank] = value
    for worker in workers:
        worker.join()
    return [results[rank] for rank in range(world_size)]


def _worker(rank: int, world_size: int, port: int, queue: Any, fn: Callable[..., Any], args: Any) -> None:
    torch.set_num_threads(1)
    try:
        store = dist.TCPStore("127.0.0.1", port, world_size + 1, is_master=False)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size)
        value = fn(rank, *args)
        dist.barrier()
        dist.destroy_process_group()
        queue.put((rank, True, value))
    except Exception:
        queue.put((rank, False, traceback.format_exc()))
