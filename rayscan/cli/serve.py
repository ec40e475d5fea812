"""The command that answers requests for new images."""

from __future__ import annotations

import sys
from typing import Annotated

from tyro.conf import arg

from rayscan.cli.arguments import RunUri
from rayscan.config import FleetConfig
from rayscan.config.serve import ServeConfig

SERVE, FLEET = ServeConfig(), FleetConfig()


def serve(
    run: RunUri,
    *,
    serve: ServeConfig = SERVE,
    fleet: FleetConfig = FLEET,
    allow_store: Annotated[tuple[str, ...], arg(metavar="PREFIX")] = (),
    token_file: str | None = None,
) -> None:
    """A service for new images: clusters, confidence, nearest known images, over HTTP.

    Edits that `rayscan apply` makes of the run are taken up while it runs.

    Args:
        run: The --out of a run on the features of one network.
        serve: How it listens, what it takes, how it grows.
        fleet: The Ray it runs on.
        allow_store: Folders, such as s3://bucket/photos, whose addresses requests may name; none by default.
        token_file: File with the token that requests must bear; without it one is made and printed, once.
    """
    from rayscan.serving.command import serve as run_service

    def say(line: str) -> None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    run_service(run, serve, fleet, say, allow_store=allow_store, token_file=token_file)
