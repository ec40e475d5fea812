"""`rayscan serve`: join or start a Ray, load the run, listen until interrupted."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rayscan.config import FleetConfig
from rayscan.config.serve import ServeConfig
from rayscan.fleet import service
from rayscan.fleet.connect import Fleet
from rayscan.fleet.listening import require_free
from rayscan.run import Run
from rayscan.serving.application import application
from rayscan.serving.clusters import Clusters
from rayscan.serving.networks import require_networks
from rayscan.serving.stores import Stores
from rayscan.serving.token import new_token, read_token


def serve(
    run: str,
    config: ServeConfig,
    fleet: FleetConfig,
    say: Callable[[str], None],
    *,
    allow_store: tuple[str, ...] = (),
    token_file: str | None = None,
) -> None:
    """Serve a run until interrupted.

    Args:
        run: Its --out.
        config: How it listens, what it takes, how it grows.
        fleet: The Ray to join.
        say: Shows a line.
        allow_store: Folders whose addresses requests may name.
        token_file: File with the token; none makes one and shows it, once.

    Raises:
        ArtifactError: the run is not finished.
        ConfigError: it cannot be served, or a setting cannot be used.
        FleetError: Ray cannot be started.
    """
    opened = Run(run)
    require_networks(opened.recipe, opened.place.uri)
    Clusters.read(opened)
    Stores(allow_store)
    token = new_token() if token_file is None else read_token(token_file)
    with Fleet(fleet, opened.place, say) as machines:
        machines.joined()
        if machines.cluster.is_own:
            require_free(config.host, config.port)
        app = application(opened.place.uri, config, allow_store, token, listens=True)
        service.start(app, config)
        try:
            if token_file is None:
                say(f"token: {token}")
            say(f"POST http://{config.host}:{config.port}/classify; GET /health, /metrics; Ctrl-C ends it")
            threading.Event().wait()
        finally:
            if not machines.cluster.is_own:  # one of our own ends as a whole
                service.stop()
