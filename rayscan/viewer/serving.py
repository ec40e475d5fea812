"""A web server on loopback, in this process alone, until it is told to end."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rayscan.errors import ConfigError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

LOOPBACK = "127.0.0.1"
PORT, TRIED = 5055, 20
"""The port where none is asked for, and how many from there on are tried."""
END_SECONDS = 2
"""Time that answers under way are given at the end."""


@contextmanager
def bound(port: int | None) -> Iterator[socket.socket]:
    """A socket that listens on loopback, closed with the block.

    Args:
        port: Which one; 0 takes any that is free, None the first free one from PORT on.

    Raises:
        ConfigError: the port is taken.
    """
    wanted = range(PORT, PORT + TRIED) if port is None else (port,)
    for number in wanted:
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((LOOPBACK, number))
            listening.listen()
        except (OSError, OverflowError) as error:
            listening.close()
            failure: Exception = error
            continue
        with listening:
            yield listening
        return
    raise ConfigError(
        "the port cannot be used",
        expected="a port of this machine that is free",
        got=failure,
        where=f"--port {wanted[0]}",
        fix="pass another --port, or 0 for any",
    )


def serve(app: ASGIApp, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Answer requests until SIGINT or SIGTERM; returns when the last answer is sent.

    Args:
        app: What answers.
        listening: Where.
        ready: Called once it does.
    """
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

    config = uvicorn.Config(
        app, log_level="error", access_log=False, lifespan="off", timeout_graceful_shutdown=END_SECONDS
    )
    server = Server(config)
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:  # uvicorn raises the signal again that ended it
        if not server.should_exit:
            raise
