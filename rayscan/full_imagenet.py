"""ImageNet, end to end, as one job: `ray job submit -- python -m rayscan.full_imagenet --data ... --out ...`.

The settings are those of `rayscan run imagenet`; `--help` lists every one of them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rayscan.cli import main as rayscan


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the imagenet recipe; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return rayscan(["full_imagenet", *given])


if __name__ == "__main__":
    sys.exit(main())
