"""The socket of a service that listens itself."""

from __future__ import annotations

import socket

from rayscan.errors import FleetError

BACKLOG = 1024
"""Connections that wait to be taken."""


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: Interface, by name or address of IPv4 or IPv6.
        port: TCP port.

    Raises:
        FleetError: the port is taken or may not be used, or no such interface is there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise FleetError(
            "the service cannot listen",
            expected="an interface of this machine and a free port",
            got=error,
            where=f"{host}:{port}",
            fix="end what listens there, or take another one: --serve.port, --serve.host",
        ) from error


def require_free(host: str, port: int) -> None:
    """Refuse an address before anything is loaded; whoever listens next may still be another.

    Raises:
        FleetError: as `bound`.
    """
    bound(host, port).close()
