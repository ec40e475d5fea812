"""The rendezvous of a training's workers: torch's process group, bound to the node's own address.

Left alone, torch's store listens on every interface and gloo on whatever the host name resolves to. Both
would open a local run to the network, and on machines with several networks both may choose the wrong one.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Any

import ray
from ray.train.torch import TorchConfig
from ray.train.torch.config import _set_torch_distributed_env_vars, _TorchBackend

from rayscan import comms
from rayscan.fleet.security import interface_of, is_loopback

_listening: list[socket.socket] = []


@dataclass
class BoundTorchConfig(TorchConfig):  # type: ignore[misc]
    """TorchConfig whose store and sockets stay on the address of the node."""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        """The backend below."""
        return _BoundBackend


class _BoundBackend(_TorchBackend):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        """Open the store on worker 0 and have all join it."""
        host, port = worker_group.execute_single(0, _listen)
        worker_group.execute(_set_torch_distributed_env_vars)
        size = len(worker_group)
        settings = (size, host, port, backend_config.backend, backend_config.timeout_s)
        ray.get([worker_group.execute_single_async(rank, _join, rank, *settings) for rank in range(size)])

    def on_shutdown(self, worker_group: Any, backend_config: TorchConfig) -> None:
        """Nothing to undo: the workers end with their group."""


def _listen() -> tuple[str, int]:
    host = ray.util.get_node_ip_address()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.bind((host, 0))
    opened.listen(128)
    _listening.append(opened)
    return host, opened.getsockname()[1]


def _join(rank: int, size: int, host: str, port: int, backend: str, timeout_s: float) -> None:
    own = ray.util.get_node_ip_address()
    name = interface_of(own)
    if name is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
        if is_loopback(own):
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)
    descriptor = _listening.pop().detach() if rank == 0 else None
    comms.join(backend, (rank, size), (host, port), timeout_s, descriptor)
