"""One run at a time in one `--out`.

On a local path the operating system holds the lock, so it ends with the process, however that ends. On an
object store it is an object with a heartbeat: an old one may be taken.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import socket
import threading
import time
from io import TextIOWrapper
from pathlib import Path

from rayscan.errors import ArtifactError
from rayscan.out_kinds import RUN, require_out
from rayscan.storage import Place, is_local, resolve

NAME = ".lock"
HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
POLL_SECONDS = 1.0


class HeldError(ArtifactError):
    """Another process holds the lock."""


class RunLock:
    """A context manager that keeps other runs out of a place."""

    def __init__(self, place: Place, *, wait: bool = False, kind: str = RUN) -> None:
        """Prepare; the lock is taken on entering.

        Args:
            place: What no other run may use meanwhile.
            wait: Wait until the lock is free, however long that is, instead of refusing.
            kind: What is going to be written there, see `out_kinds`.
        """
        self.kind = kind
        self.place = place
        self.wait = wait
        self._file: TextIOWrapper | None = None
        self._over = threading.Event()
        self._token = secrets.token_hex(8)

    def __enter__(self) -> RunLock:
        """Take the lock.

        Raises:
            ConfigError: the place holds something of another kind; nothing was written.
            HeldError: another run holds it, and `wait` is false.
            ArtifactError: the place cannot be written, or holds a record that cannot be read.
        """
        require_out(self.place, self.kind)
        take = self._take_local if is_local(self.place.uri) else self._take_remote
        while True:
            try:
                take()
            except HeldError:
                if not self.wait:
                    raise
                time.sleep(POLL_SECONDS)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        """Release the lock."""
        if self._file is not None:
            self._file.close()
            return
        self._over.set()
        with contextlib.suppress(
            ArtifactError, OSError
        ):  # else it grows stale, and the run's own error is heard
            self.place.delete(NAME)

    def _take_local(self) -> None:
        path = Path(resolve(self.place.uri)[1]) / NAME
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise ArtifactError(
                "--out cannot be written",
                expected="a folder that can be made and written",
                got=error,
                where=self.place.uri,
                fix="choose another --out, or get the right to write there",
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip()
            file.close()
            raise self._held(holder) from error
        file.truncate(0)
        file.write(self._content())
        file.flush()
        self._file = file

    def _take_remote(self) -> None:
        first = self._remote_content()
        if first is not None:  # its holder lives if the heartbeat changes meanwhile
            time.sleep(2 * HEARTBEAT_SECONDS)
            if self._remote_content() not in (None, first):
                raise self._held(first)
        self._heartbeat()
        time.sleep(0.5)
        now = self._remote_content()
        if now is None or json.loads(now)["token"] != self._token:  # two came at once: the last writer has it
            raise self._held(now or "unknown")
        threading.Thread(target=self._send_heartbeats, daemon=True, name="lock").start()

    def _send_heartbeats(self) -> None:
        while not self._over.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(ArtifactError, OSError):  # a store that is away comes back
                self._heartbeat()

    def _heartbeat(self) -> None:
        self.place.write(NAME, self._content().encode())

    def _remote_content(self) -> str | None:
        try:
            return self.place.read(NAME).decode()
        except FileNotFoundError:
            return None

    def _content(self) -> str:
        return json.dumps(
            {"host": socket.gethostname(), "pid": os.getpid(), "token": self._token, "beat": time.time_ns()}
        )

    def _held(self, holder: str) -> HeldError:
        return HeldError(
            "another run is using this --out",
            expected="one run at a time",
            got=holder or "a lock",
            where=self.place.uri,
            fix="wait for it to end, or choose another --out",
        )


def holder(place: Place) -> str | None:
    """Return who holds the lock of a place, as host and process; None if nobody does."""
    try:
        note = json.loads(place.read(NAME))
    except (FileNotFoundError, ValueError):
        return None
    if is_local(place.uri):
        with (Path(resolve(place.uri)[1]) / NAME).open(encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return f"{note['host']}, process {note['pid']}"
        return None
    is_alive = time.time_ns() - int(note["beat"]) < STALE_SECONDS * 1e9
    return f"{note['host']}, process {note['pid']}" if is_alive else None
