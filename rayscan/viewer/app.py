"""Embedding Atlas's own server for a map, closed to everything but the page it serves itself.

Its page speaks SQL to the server, so that a strange page in the same browser must not reach it: requests
that another origin or another host name caused are refused. Its policy forbids the page to ask anything of
the network, as models of a content delivery network; nothing of what is shown here needs that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import embedding_atlas
import numpy as np
import pyarrow as pa
from embedding_atlas.data_source import DataSource
from embedding_atlas.options import make_embedding_atlas_props
from embedding_atlas.server import make_server
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rayscan.exports.atlas import IMAGE, NEIGHBORS, TEXT, X, Y

SCRIPT = "/canvas_map.js"
ROW = "__row_index__"
COLOR = "name"
CHARTS = ("name", "confidence", "margin", "outlier", "split")
"""Columns that have a chart from the start, as far as they are there; others can be added on the page."""
FIRST = (IMAGE, "name", "confidence", "margin", "source", "key")
"""Columns that the table begins with."""
HIDDEN = ("gid", "top5", "top5_probs", NEIGHBORS, X, Y, TEXT, "cluster")
"""Columns that the table leaves out at first."""
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' 'wasm-unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; worker-src 'self' blob:; connect-src 'self' data: blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def atlas_app(table: pa.Table, port: int) -> ASGIApp:
    """Make the application.

    Args:
        table: Rows of `exports.atlas`.
        port: It will be served at, on loopback.
    """
    first = [name for name in FIRST if name in table.column_names]
    ordered = table.select([*first, *(name for name in table.column_names if name not in first)])
    rows = ordered.append_column(ROW, pa.array(np.arange(len(table))))
    source = _Held("rayscan", rows, {"props": _props(table)})
    static = Path(embedding_atlas.__file__).parent / "static"
    server = make_server(source, static_path=str(static), duckdb_uri="server")
    return _Closed(_Page(server, (static / "index.html").read_text("utf-8")), port)


class _Held(DataSource):  # type: ignore[misc]  # the package has no types
    """Data whose page keeps what it notes in memory, not in a cache of the user."""

    def __init__(self, *arguments: Any) -> None:
        self._noted: dict[str, Any] = {}
        super().__init__(*arguments)

    def _cache_index_load(self) -> list[str]:
        return []

    def cache_set(self, name: str, data: Any) -> None:
        self._noted[name] = data

    def cache_get(self, name: str) -> Any:
        return self._noted.get(name)

    def cache_items(self) -> dict[str, Any]:
        return dict(self._noted)


class _Page:
    """The page with a script of ours before its own, and the server for all else."""

    def __init__(self, server: ASGIApp, page: str) -> None:
        self._server = server
        with_script = page.replace("<script ", f'<script src=".{SCRIPT}"></script>\n    <script ', 1)
        script = (Path(__file__).parent / SCRIPT.removeprefix("/")).read_text("ascii")
        self._own: dict[str, Response] = {
            "/": HTMLResponse(with_script),
            SCRIPT: Response(script, media_type="text/javascript"),
            "/favicon.ico": Response(status_code=204),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._own.get(scope["path"], self._server)
        await answer(scope, receive, send)


class _Closed:
    """Lets in what the page itself asks for, and nothing else."""

    def __init__(self, inner: ASGIApp, port: int) -> None:
        self._inner = inner
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        self._origins = {f"http://{host}" for host in self._hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
            return
        headers = Headers(scope=scope)
        is_own = headers.get("origin", next(iter(self._origins))) in self._origins
        site = headers.get("sec-fetch-site", "none")
        is_page = (
            scope["type"] == "http" and scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"
        )
        if (
            headers.get("host") not in self._hosts
            or not is_own
            or not (is_page or site in ("none", "same-origin"))
        ):
            await PlainTextResponse("only the page served here may ask\n", 403)(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered = MutableHeaders(scope=message)
                answered["Content-Security-Policy"] = POLICY
                answered["Referrer-Policy"] = "no-referrer"
                answered["X-Content-Type-Options"] = "nosniff"
                answered["Cross-Origin-Resource-Policy"] = "same-origin"
            await send(message)

        await self._inner(scope, receive, sent)


def _props(table: pa.Table) -> dict[str, Any]:
    """What the page shows at first: the map colored by cluster, with names, and charts that filter it."""
    has_pictures = table[IMAGE].null_count < len(table)
    image = IMAGE if has_pictures else None
    hidden = [*HIDDEN, *([] if has_pictures else [IMAGE])]
    props: dict[str, Any] = make_embedding_atlas_props(
        row_id=ROW,
        x=X,
        y=Y,
        text=TEXT,
        image=image,
        neighbors=NEIGHBORS,
        labels=_labels(table),
        initial_state={"columnStyles": {name: {"display": "hidden"} for name in hidden}},
    )
    data = {"x": X, "y": Y, "text": TEXT, "image": image, "neighbors": NEIGHBORS, "category": COLOR}
    props["defaultChartsConfig"] = {
        "embedding": {"data": {key: value for key, value in data.items() if value is not None}},
        "include": [name for name in CHARTS if name in table.column_names],
    }
    return props


def _labels(table: pa.Table) -> list[dict[str, Any]]:
    """Names of clusters where most of their images are: at the median of their places, the largest first."""
    clusters, x, y = (table[name].to_numpy() for name in ("cluster", X, Y))
    order = np.argsort(clusters, kind="stable")
    starts = np.flatnonzero(np.diff(clusters[order], prepend=clusters[order[:1]] - 1))
    labels = []
    for rows in np.split(order, starts[1:]):
        text = table["name"][int(rows[0])].as_py()
        place = {"x": float(np.median(x[rows])), "y": float(np.median(y[rows]))}
        # documented as text, read as content (embedding-atlas 0.26)
        labels.append({**place, "text": text, "content": text, "priority": len(rows)})
    return sorted(labels, key=lambda label: -int(label["priority"]))
