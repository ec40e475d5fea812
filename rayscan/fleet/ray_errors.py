"""What lies inside the errors that Ray wraps around others."""

from __future__ import annotations

from collections.abc import Iterator

from rayscan.errors import FleetError, RayscanError


def chain(error: BaseException) -> Iterator[BaseException]:
    """Every error of a chain, the outermost first: each is the cause of the one before."""
    inner: BaseException | None = error
    while inner is not None:
        yield inner
        below = (getattr(inner, name, None) for name in ("controller_failure", "cause"))
        inner = next((b for b in below if isinstance(b, BaseException)), inner.__cause__)


def unwrapped(error: Exception, what: str) -> RayscanError:
    """The rayscan error inside one of Ray's, or a FleetError that says what Ray said."""
    for inner in chain(error):
        below = getattr(inner, "cause", None)  # Ray's own class of a rayscan error says all its trace
        if isinstance(inner, RayscanError) and not isinstance(below, RayscanError):
            return inner
    return FleetError(
        f"{what} failed on the fleet",
        got=f"{type(error).__name__}: {str(error).strip()[-2000:]}",
        fix="the same command resumes from the last finished part",
    )
