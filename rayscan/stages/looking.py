"""Finding the files that the user means, which takes minutes for millions of them, with its progress."""

from __future__ import annotations

from rayscan.console.progress import Progress
from rayscan.data.listing import Listing, list_sources


def look_for(data: str, progress: Progress | None = None) -> Listing:
    """What `list_sources` finds, and raises; the number of files so far is shown.

    Args:
        data: Name, pattern, folder or list, local or remote.
        progress: Where to show; standard error if not given.
    """
    shown = Progress() if progress is None else progress
    shown.start(f"looking for {data}", 0, "files")
    try:
        return list_sources(data, shown.at)
    finally:
        shown.clear()
