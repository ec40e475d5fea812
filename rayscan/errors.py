"""The four errors a user of rayscan can meet.

Every message says what was expected, what came, where, and what to do about it. Anything else that
escapes is a defect of rayscan.
"""

from __future__ import annotations


class RayscanError(Exception):
    """Base of the four errors; catch it to catch them all."""

    def __init__(
        self,
        problem: str,
        *,
        expected: object = None,
        got: object = None,
        where: object = None,
        fix: str = "",
    ) -> None:
        """Compose the message.

        Args:
            problem: One line that names the thing that is wrong.
            expected: What would have been right.
            got: What came instead.
            where: The key, file, row or worker it was found at.
            fix: What the reader can do about it.
        """
        parts = [problem]
        parts += [f"  expected: {expected}"] if expected is not None else []
        parts += [f"  got:      {got}"] if got is not None else []
        parts += [f"  where:    {where}"] if where is not None else []
        parts += [f"  to do:    {fix}"] if fix else []
        self.text = "\n".join(parts)
        super().__init__(self.text)

    def __reduce__(self) -> tuple[object, ...]:
        """Travel between processes with the composed message intact."""
        return (_rebuild, (type(self), self.text))


def _rebuild(kind: type[RayscanError], text: str) -> RayscanError:
    error = kind.__new__(kind)
    RayscanError.__init__(error, text)
    return error


class ConfigError(RayscanError, ValueError):
    """A setting is unknown, out of range, or does not go with the data."""


class DataError(RayscanError):
    """Images, shards, labels or lists are missing, damaged or inconsistent."""


class ArtifactError(RayscanError):
    """A stored result is missing, torn, altered, locked or of another schema."""


class FleetError(RayscanError):
    """Machines, workers or the network did not do what the run needs."""
