"""Asking a store again that does not answer: waits that double, up to a deadline."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pyarrow import fs as pafs

T = TypeVar("T")
CONNECT_S, REQUEST_S = 10.0, 30.0
ATTEMPTS = 2
"""Of the client itself; a stale connection costs one."""


@dataclass(frozen=True)
class Patience:
    """How long a store that does not answer is asked again."""

    deadline_s: float = 300.0
    """Give up so long after the first try."""
    first_wait_s: float = 0.1
    """Wait after the first failure; it doubles each time."""
    longest_wait_s: float = 15.0
    """At most so long between two tries."""


PATIENCE = Patience()
GONE = (FileNotFoundError, PermissionError)
"""What another try does not change."""


def insist(ask: Callable[[], T], patience: Patience = PATIENCE) -> T:
    """Ask a store until it answers.

    Waits are drawn between half and all of what they have doubled to, so that many workers do not come back
    at once; nothing but speed depends on the draw.

    Raises:
        OSError: of the last try: the deadline is over, or the file is not there or not ours to read.
    """
    began, wait = time.monotonic(), patience.first_wait_s
    while True:
        try:
            return ask()
        except GONE:
            raise
        except OSError:
            pause = wait * random.uniform(0.5, 1.0)
            if time.monotonic() + pause - began > patience.deadline_s:
                raise
            time.sleep(pause)
            wait = min(2 * wait, patience.longest_wait_s)


def impatient(filesystem: pafs.FileSystem) -> pafs.FileSystem:
    """The same S3 client without its own retries: those of a client from a URI take minutes, deadline or not.

    Args:
        filesystem: Any; only S3 clients are replaced.
    """
    if not isinstance(filesystem, pafs.S3FileSystem):
        return filesystem
    _, (settings,) = filesystem.__reduce__()
    settings = {name: value for name, value in settings.items() if name != "proxy_options" or value["host"]}
    settings |= {"connect_timeout": CONNECT_S, "request_timeout": REQUEST_S}
    return pafs.S3FileSystem(
        **settings, retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS)
    )
