"""A request that is refused, with the HTTP status that says so."""

from __future__ import annotations


class RefusalError(Exception):
    """A request that cannot be answered, by its own fault."""

    def __init__(self, status: int, reason: str) -> None:
        """Refuse.

        Args:
            status: 4xx.
            reason: What is wrong and what was expected, in one line.
        """
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
