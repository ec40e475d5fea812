"""Whether something listens where a Ray is to be joined: told in seconds; Ray itself asks for minutes."""

from __future__ import annotations

import os
import re
import socket
import time

from rayscan.config import FleetConfig
from rayscan.errors import FleetError
from rayscan.fleet.security import is_loopback

PATIENCE_SECONDS = 5.0
"""How long a head node that does not answer is asked again."""
_HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""How a client of gRPC, which Ray speaks, begins: a preface, and empty settings (RFC 9113, Sec. 3.4)."""
_SETTINGS = 4
"""Type of the frame that every server of HTTP/2 sends first."""
_HOST_PORT = re.compile(r"(?:ray://)?(?:\[([0-9a-fA-F:]+)\]|([^:/\[\]]+)):(\d+)")


def address_and_origin(config: FleetConfig) -> tuple[str | None, str]:
    """The address of the Ray to join, None for one of our own; and where the address came from, in words."""
    if config.address:
        return config.address, f"--fleet.address {config.address}"
    if address := os.environ.get("RAY_ADDRESS"):
        return address, f"RAY_ADDRESS={address} in the environment"
    return None, "--fleet.address local"


def require_listening(address: str, origin: str) -> None:
    """Refuse an address where nothing listens; one that is no host and port, such as `auto`, is left to Ray.

    Raises:
        FleetError: saying where the address came from.
    """
    found = _HOST_PORT.fullmatch(address)
    if found is None:
        return
    host, port, began = found[1] or found[2], int(found[3]), time.monotonic()
    while True:
        try:
            with socket.create_connection((host, port), timeout=PATIENCE_SECONDS / 2) as stream:
                is_ray = _speaks_http2(stream)
        except (OSError, OverflowError) as error:
            if time.monotonic() - began < PATIENCE_SECONDS and not isinstance(error, socket.gaierror):
                time.sleep(0.5)
                continue
            raise FleetError(
                "no Ray answers",
                expected=f"a Ray at {address}",
                got=error,
                where=origin,
                fix="start it, correct the address, or unset it to use this machine alone",
            ) from error
        if not is_ray:
            raise FleetError(
                "what listens is no Ray",
                expected=f"a Ray at {address}",
                got="something that does not answer as Ray does",
                where=origin,
                fix="correct the address, or unset it to use this machine alone",
            )
        return


def _speaks_http2(stream: socket.socket) -> bool:
    """Whether a server answers a client of gRPC in time; True where it speaks TLS, which is not tried."""
    if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
        return True
    stream.settimeout(PATIENCE_SECONDS)
    try:
        stream.sendall(_HTTP2_HELLO)
        answer = stream.recv(9)
    except TimeoutError:
        return False
    return len(answer) > 3 and answer[3] == _SETTINGS


def is_loopback_only(address: str, node_ip: str) -> bool:
    """Whether a Ray on this machine listens on loopback and not where Ray would look for it.

    Ray takes the outward address of the machine for a loopback one that it is told; a Ray that
    `rayscan.fleet.security` or `ray start --node-ip-address 127.0.0.1` has started does not answer there.

    Args:
        address: Something listens there.
        node_ip: Outward address of this machine.
    """
    found = _HOST_PORT.fullmatch(address)
    if found is None or not is_loopback(found[1] or found[2]):
        return False
    try:
        with socket.create_connection((node_ip, int(found[3])), timeout=PATIENCE_SECONDS / 2):
            return False
    except OSError:
        return True
