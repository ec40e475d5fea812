"""rayscan: unlabelled images in, clusters out. SCAN (arXiv 2005.12320) from end to end on Ray.

A run, stage by stage: docs/story.md. The command: `rayscan --help`. A run in Python: `rayscan.open(out)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rayscan.version import __version__

if TYPE_CHECKING:
    from rayscan.run import Run

__all__ = ["__version__", "open"]


def open(run: str) -> Run:
    """Open a run for reading.

    Args:
        run: Its `--out`: a local path, or s3://, gs:// and the like.

    Returns:
        The run; `.assignments` is an Arrow table with one row per image.

    Raises:
        ArtifactError: there is no run.
    """
    from rayscan.run import open_run  # here, so that `import rayscan` stays instant

    return open_run(run)
