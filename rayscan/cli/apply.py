"""The command that applies a person's corrections to a run."""

from __future__ import annotations

import sys
from typing import Annotated

from tyro.conf import Positional, arg

from rayscan.cli.arguments import RunUri, absolute_file


def apply(
    run: RunUri,
    edits: Positional[Annotated[str | None, arg(metavar="EDITS")]] = None,
    *,
    reset: bool = False,
    dry_run: bool = False,
) -> None:
    """Corrections of the report page, edits.json, as new assignments of a run.

    They are kept with the run, under edits/ in it, and applied whenever its stages run again.

    Args:
        run: The --out of a run or of a prediction.
        edits: What the report page saved. Without it, names that were changed in clusters.json are taken up,
            and clusters of one name become one.
        reset: Forget all edits: the clusters are again as the model made them.
        dry_run: Check the edits, say what they would do and the fingerprint of the assignments, and change
            nothing.
    """
    from rayscan.edits.applying import apply

    sys.stdout.write(apply(run, absolute_file(edits), reset=reset, dry_run=dry_run))
