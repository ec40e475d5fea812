"""The socket of a service: only where it is told to, and a taken port is said so."""

from __future__ import annotations

import socket

import pytest

from rayscan.errors import FleetError
from rayscan.fleet.listening import bound, require_free


def test_it_listens_at_that_interface_alone_and_a_taken_port_is_refused() -> None:
    with bound("127.0.0.1", 0) as one:
        host, port = one.getsockname()
        assert host == "127.0.0.1"
        with socket.create_connection((host, port)), pytest.raises(FleetError, match=f"127.0.0.1:{port}"):
            require_free(host, port)
    require_free("127.0.0.1", port)
    with bound("127.0.0.1", port):  # free it stayed
        pass


def test_what_is_no_interface_of_this_machine_is_refused() -> None:
    with pytest.raises(FleetError, match=r"192\.0\.2\.1"):  # RFC 5737
        bound("192.0.2.1", 0)
