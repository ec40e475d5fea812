"""An S3 service on loopback and the way to it, which can be cut or break in mid-request."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.request import Request, urlopen

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "us-east-1",
}
"""What a client of the service must have in its environment; the service takes anything."""


class Line:
    """The way to a service: a port that passes bytes on, unless it is cut."""

    def __init__(self, to: tuple[str, int]) -> None:
        """Open a port of its own before `to`."""
        self.to = to
        self.is_cut = False
        self.breaks_after: int | None = None
        """Bytes of a request after which its connection breaks."""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def uri(self, folder: str) -> str:
        """A directory of the service, by this way."""
        return f"s3://bucket/{folder}?scheme=http&endpoint_override=127.0.0.1:{self.port}"

    def close(self) -> None:
        """No more connections."""
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            if self.is_cut:
                near.close()
                continue
            far = socket.create_connection(self.to)
            threading.Thread(target=self._pump, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_request: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                limit = self.breaks_after if is_request else None
                if self.is_cut or (limit is not None and passed + len(data) > limit):
                    sink.sendall(data[: max(0, (limit or 0) - passed)])
                    break
                passed += len(data)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextlib.contextmanager
def service() -> Iterator[tuple[str, int]]:
    """Host and port of a fresh service with a bucket called `bucket`."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    urlopen(Request(f"http://{host}:{port}/bucket", method="PUT")).close()
    try:
        yield host, port
    finally:
        server.stop()
