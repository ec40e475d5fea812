"""The one retry policy: what does not answer is asked again after waits that double, up to a deadline."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from rayscan.errors import ArtifactError

T = TypeVar("T")

DEADLINE_VARIABLE = "RAYSCAN_STORE_PATIENCE_SECONDS"
"""Environment variable: how long a store may be away before what asks it ends; 300 s if not set."""
REFUSALS = (
    "ACCESS_DENIED",
    "NO_SUCH_BUCKET",
    "enable the allow_bucket_creation option",  # Arrow's words for a bucket that is not there, when it writes
    "INVALID_ACCESS_KEY",
    "SIGNATURE_DOES_NOT_MATCH",
    "HTTP status 40",
    "HTTP status 30",
    "PERMANENT_REDIRECT",
    "PermanentRedirect",
)
"""Marks of an answer that would be the same the next time."""
FINAL = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)
"""Errors that would be the same the next time."""


@dataclass(frozen=True)
class RetryPolicy:
    """How long a store that does not answer is asked again."""

    deadline_s: float = 300.0
    """Give up so long after the first try; 0 asks once."""
    first_wait_s: float = 0.1
    """Wait after the first failure; it doubles each time."""
    longest_wait_s: float = 15.0
    """At most so long between two tries."""


ONCE = RetryPolicy(deadline_s=0.0)
"""For a local disk: what it refuses it would refuse again."""


def default_policy() -> RetryPolicy:
    """The policy for stores that are reached through a network, with the deadline of the environment."""
    return RetryPolicy(float(os.environ.get(DEADLINE_VARIABLE, RetryPolicy.deadline_s)))


def retry(ask: Callable[[], T], policy: RetryPolicy | None = None, *, from_first_failure: bool = False) -> T:
    """The answer of a store, which is asked until it gives one.

    Waits are drawn between half and all of what they have doubled to, so that many workers do not come back
    at once; nothing but speed depends on the draw.

    Args:
        ask: One request; raises OSError, or an ArtifactError from one, where it fails.
        policy: Deadline and waits; `default_policy()` if not given.
        from_first_failure: The deadline begins at the first failure, for requests that themselves take long.

    Raises:
        OSError: of the last try: the deadline is over, or another try would not change it.
        ArtifactError: the same, from a client that cannot start.
    """
    policy = default_policy() if policy is None else policy
    began, wait = time.monotonic(), policy.first_wait_s
    while True:
        try:
            return ask()
        except (OSError, ArtifactError) as error:
            if from_first_failure:
                began, from_first_failure = time.monotonic(), False
            pause = wait * random.uniform(0.5, 1.0)
            if _is_final(error) or time.monotonic() + pause - began > policy.deadline_s:
                raise
            time.sleep(pause)
            wait = min(2 * wait, policy.longest_wait_s)


def _is_final(error: Exception) -> bool:
    is_refused = any(mark in str(error) for mark in REFUSALS)
    is_ours = isinstance(error, ArtifactError) and not isinstance(error.__cause__, OSError)
    return is_refused or is_ours or isinstance(error, FINAL)
