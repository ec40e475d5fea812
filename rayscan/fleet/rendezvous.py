"""The rendezvous of a training's workers: torch's process group, bound to the node's own address.

Left alone, torch's store listens on every interface and gloo on whatever the host name resolves to. Both
would open a local run to the network, and on machines with several networks both may choose the wrong one.

Ray's own `TorchConfig` would do the same work with an import of torch in Ray Train's controller, which needs
none: what is shared with it is imported where it is used, in the driver and in the workers.
"""

from __future__ import annotations

import os
import socket
from dataclasses import asdict, dataclass
from typing import Any

import ray
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.util import TrainingFramework

from rayscan.fleet.security import interface_of, is_loopback

_listening: list[socket.socket] = []


@dataclass
class BoundTorchConfig(BackendConfig):  # type: ignore[misc]
    """What `ray.train.torch.TorchConfig` is, with store and sockets on the address of the node."""

    backend: str
    """gloo or nccl."""
    timeout_s: float
    """Seconds after which a worker that waits for another gives up."""

    @property
    def backend_cls(self) -> type[Backend]:
        """The backend below."""
        return _BoundBackend

    @property
    def framework(self) -> TrainingFramework:
        """Torch, for Ray's records."""
        return TrainingFramework.TORCH

    @property
    def train_func_context(self) -> Any:
        """What Ray enters around a function that uses torch: the worker's GPU becomes the default one."""
        from ray.train.torch.config import TorchConfigContextManager

        return TorchConfigContextManager

    def to_dict(self) -> dict[str, Any]:
        """The settings, for Ray's records."""
        return asdict(self)


class _BoundBackend(Backend):  # type: ignore[misc]
    share_cuda_visible_devices = True
    """As torch's backend has it: NCCL wants to see the GPUs of its neighbours."""

    def on_start(self, worker_group: Any, backend_config: BoundTorchConfig) -> None:
        """Open the store on worker 0 and have all join it."""
        host, port = worker_group.execute_single(0, _listen)
        worker_group.execute(_name_ranks)
        size = len(worker_group)
        settings = (size, host, port, backend_config.backend, backend_config.timeout_s)
        ray.get([worker_group.execute_single_async(rank, _join, rank, *settings) for rank in range(size)])

    def on_shutdown(self, worker_group: Any, backend_config: BoundTorchConfig) -> None:
        """Nothing to undo: the workers end with their group."""


def _name_ranks() -> None:
    from ray.train.torch.config import _set_torch_distributed_env_vars

    _set_torch_distributed_env_vars()


def _listen() -> tuple[str, int]:
    host = ray.util.get_node_ip_address()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.bind((host, 0))
    opened.listen(128)
    _listening.append(opened)
    return host, opened.getsockname()[1]


def _join(rank: int, size: int, host: str, port: int, backend: str, timeout_s: float) -> None:
    from rayscan import comms

    own = ray.util.get_node_ip_address()
    name = interface_of(own)
    if name is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
        if is_loopback(own):
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)
    descriptor = _listening.pop().detach() if rank == 0 else None
    comms.join(backend, (rank, size), (host, port), timeout_s, descriptor)
