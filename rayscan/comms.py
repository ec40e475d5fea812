"""Collectives between the workers of a training. Every function is the identity at world size 1.

Sums and gathers exist with gradient: the loss of the whole batch is the sum of the workers' losses, so the
gradient of a summed (gathered) tensor is the sum over workers of their gradients of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

GLOO_WORDS = ("gloo/transport/", "Connection closed by peer")
"""What the plain RuntimeErrors say that gloo raises when another worker is gone or silent."""

_waited = [0.0]


@contextmanager
def _timed() -> Iterator[None]:
    began = time.perf_counter()
    try:
        yield
    finally:
        _waited[0] += time.perf_counter() - began


def take_seconds() -> float:
    """Seconds this worker's host spent in the functions below since it asked last."""
    seconds, _waited[0] = _waited[0], 0.0
    return seconds


def join(
    backend: str,
    rank_and_size: tuple[int, int],
    store: tuple[str, int],
    timeout_s: float,
    listening: int | None = None,
) -> None:
    """Join the process group of a training.

    Args:
        backend: gloo or nccl.
        rank_and_size: Number of this worker, and of workers.
        store: Host and port of worker 0's store.
        timeout_s: Seconds after which a worker that waits for another gives up.
        listening: For worker 0: descriptor of the socket that listens there already.
    """
    (rank, size), (host, port) = rank_and_size, store
    timeout = timedelta(seconds=timeout_s)
    met = dist.TCPStore(  # type: ignore[attr-defined]
        host, port, size, rank == 0, timeout, wait_for_workers=False, master_listen_fd=listening
    )
    dist.init_process_group(backend, store=met, rank=rank, world_size=size, timeout=timeout)


def is_peer_failure(error: BaseException) -> bool:
    """Whether an exception only says that another worker, or the way to it, is gone.

    NCCL and the store have exception types of their own; gloo is known by its words alone.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, dist.DistError):
            return True
        if type(found) is RuntimeError and any(words in str(found) for words in GLOO_WORDS):
            return True
        found = found.__cause__ or found.__context__
    return False


def is_distributed() -> bool:
    """Whether a process group of more than one worker is up."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """Number of this worker, from 0."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """Number of workers (W)."""
    return dist.get_world_size() if is_distributed() else 1


def all_reduce(tensor: Tensor) -> Tensor:
    """Sum over workers, in place, without gradient."""
    if is_distributed():
        with _timed():
            dist.all_reduce(tensor)
    return tensor


def all_gather_rows(row: Tensor) -> Tensor:
    """Rows of equal shape of all workers, in rank order, without gradient: [...] -> [W, ...]."""
    if not is_distributed():
        return row.unsqueeze(0)
    rows = [torch.empty_like(row) for _ in range(world_size())]
    dist.all_gather(rows, row)
    return torch.stack(rows)


def broadcast_text(text: str | None) -> str | None:
    """The text worker 0 holds, on every worker; torch's own way would send, and run, a pickle."""
    if not is_distributed():
        return text
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    data = torch.frombuffer(bytearray((text or "").encode()) or bytearray(1), dtype=torch.uint8).to(device)
    size = torch.tensor([-1 if text is None else len(text.encode())], device=device)
    dist.broadcast(size, src=0)
    length = int(size)
    if length <= 0:
        return None if length < 0 else ""
    data = data if rank() == 0 else torch.empty(length, dtype=torch.uint8, device=device)
    dist.broadcast(data, src=0)
    return bytes(data.cpu().numpy()).decode()


def data_parallel(net: nn.Module) -> nn.Module:
    """`net` whose backward averages gradients over the workers.

    Buffers are not broadcast: synchronised normalisation keeps them equal, and a broadcast would hide it
    if it did not.
    """
    if not is_distributed() or not any(p.requires_grad for p in net.parameters()):
        return net
    device = next(net.parameters()).device
    ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(net, device_ids=ids, broadcast_buffers=False, gradient_as_bucket_view=True)


@contextmanager
def no_gradient_sync(net: nn.Module) -> Iterator[None]:
    """Have backward inside the block add to gradients and send nothing; the next one sends the sum."""
    if isinstance(net, DistributedDataParallel):
        with net.no_sync():
            yield
    else:
        yield


def all_reduce_with_grad(tensor: Tensor) -> Tensor:
    """Sum over workers; its gradient is the sum over workers of their gradients. Shape unchanged."""
    if not is_distributed():
        return tensor
    reduced: Tensor = _AllReduce.apply(tensor)
    return reduced


def all_gather_with_grad(tensor: Tensor, counts: Sequence[int] | None = None) -> Tensor:
    """Rows of every worker in rank order: [n_r, ...] -> [sum n_r, ...]; row counts may differ.

    The gradient of a worker's own rows is the sum over workers of their gradients of them.

    Args:
        tensor: This worker's rows.
        counts: Rows of every worker, where they are known; asking for them makes the host wait.
    """
    if not is_distributed():
        return tensor
    known = row_counts(tensor.shape[0], tensor.device) if counts is None else list(counts)
    gathered: Tensor = _AllGather.apply(tensor, known)
    return gathered


def row_counts(num_rows: int, device: torch.device | str = "cpu") -> list[int]:
    """`num_rows` of every worker, in rank order."""
    if not is_distributed():
        return [num_rows]
    counts = torch.zeros(world_size(), dtype=torch.int64, device=device)
    counts[rank()] = num_rows
    all_reduce(counts)
    return [int(n) for n in counts.tolist()]


class _AllReduce(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, tensor: Tensor) -> Tensor:
        return all_reduce(tensor.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> Tensor:
        return all_reduce(grads[0].clone(memory_format=torch.contiguous_format))


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        longest = max(ctx.counts)
        padded = tensor.new_zeros((longest, *tensor.shape[1:]))
        padded[: tensor.shape[0]] = tensor
        slots = [torch.empty_like(padded) for _ in ctx.counts]
        with _timed():
            dist.all_gather(slots, padded)
        return torch.cat([slot[:n] for slot, n in zip(slots, ctx.counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        total = all_reduce(grads[0].clone(memory_format=torch.contiguous_format))
        first = sum(ctx.counts[: rank()])
        return total[first : first + ctx.counts[rank()]], None
