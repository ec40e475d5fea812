"""`rayscan view RUN`: the map of a run in a browser, by Embedding Atlas on loopback.

`cached` makes the file it shows, `app` is its server with what makes it safe here, `serving` runs it.
"""

from __future__ import annotations

import webbrowser
from collections.abc import Callable

from rayscan.errors import ConfigError
from rayscan.run import Run
from rayscan.viewer.cached import read_map
from rayscan.viewer.serving import bound, serve


def view(run_uri: str, port: int | None, *, opens_browser: bool, say: Callable[[str], None]) -> None:
    """Show a run until Ctrl-C or SIGTERM.

    Args:
        run_uri: `--out` of a run or a prediction.
        port: On loopback; None takes PORT, or the next that is free.
        opens_browser: Open the page in the user's browser.
        say: Told the address, line by line.

    Raises:
        ArtifactError: the run has no assignments, index or embeddings.
        ConfigError: Embedding Atlas is not installed, or the port is taken.
        DataError: a picture cannot be read.
    """
    try:
        from rayscan.viewer.app import atlas_app
    except ModuleNotFoundError as error:
        raise ConfigError(
            "the viewer is not installed",
            expected="the package embedding-atlas",
            got=error,
            where="rayscan view",
            fix="pip install 'rayscan[view]'",
        ) from error
    run = Run(run_uri)
    with bound(port) as socket:
        address = f"http://127.0.0.1:{socket.getsockname()[1]}/"
        say(f"{run.place.uri}: laying out the map, unless it is there already")
        app = atlas_app(read_map(run), socket.getsockname()[1])

        def ready() -> None:
            say(f"open {address} in a browser; Ctrl-C ends it")
            if opens_browser:
                webbrowser.open(address)

        serve(app, socket, ready)
