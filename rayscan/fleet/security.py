"""Who can reach a Ray: tokens, loopback addresses and private directories.

Left alone, Ray 2.60 listens on every interface, writes its token readable for all, and keeps sockets and logs
in a directory anybody may write to. Whoever reaches one of them runs code as the user of this process.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LOOPBACK = "127.0.0.1"
NAMES = 9
"""Directories of fixed names that are tried, before one is made whose name nobody can know."""
LONGEST_ROOT = 12
"""Ray's sockets lie up to 90 characters below it, and systems allow 104 to 108."""
OPEN_WARNING = (
    "warning: the joined Ray demands no token: whoever reaches its ports runs code as its user "
    "(docs/howto/cluster.md)"
)
ANSWER_SECONDS = 2.0


def start_local_ray(**settings: Any) -> None:
    """Start a Ray on loopback, with a token, in a directory of this user alone.

    Args:
        settings: More arguments of `ray.init`.
    """
    import ray

    enable_token_auth()
    with on_loopback():
        # below the root: Ray opens the directory it is given to all
        root = private_root() / "ray"
        ray.init(address="local", _node_ip_address=LOOPBACK, _temp_dir=str(root), **settings)


def enable_token_auth() -> None:
    """Turn Ray's token authentication on for whatever this process starts.

    Also when the environment says otherwise: that may speak of a cluster that is joined, not of this one.
    """
    from ray._private.authentication.authentication_token_setup import _enable_token_auth

    secure_token()
    _enable_token_auth()


def secure_token() -> None:
    """Make the token before Ray does, or close the file to others.

    Ray reads RAY_AUTH_TOKEN, else the file RAY_AUTH_TOKEN_PATH, else ~/.ray/auth_token.
    """
    if os.environ.get("RAY_AUTH_TOKEN"):
        return
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    try:
        _secure(Path(named) if named else Path.home() / ".ray" / "auth_token")
    except OSError:  # a container's user may have no home
        if named:
            raise
        path = private_root() / "auth_token"
        _secure(path)
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)


def _secure(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    if not path.exists():
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        with contextlib.suppress(FileExistsError):  # another run was first: its token is as good
            os.link(partial, path)
        partial.unlink()
    if path.stat().st_uid == os.getuid() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        path.chmod(0o600)


def private_root() -> Path:
    """The directory for Ray's sockets and logs, which only this user can enter."""
    base = Path(tempfile.gettempdir())
    if len(str(base)) > LONGEST_ROOT:
        base = Path("/tmp")
    for number in range(NAMES):  # somebody may have taken a name, or opened it: the next run finds ours again
        path = base / f"rayscan-{os.getuid()}{f'-{number}' if number else ''}"
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        found = path.lstat()
        is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
        if is_ours and not stat.S_IMODE(found.st_mode) & 0o077:
            return path
    return Path(tempfile.mkdtemp(prefix="rayscan-", dir=base))


@contextlib.contextmanager
def on_loopback() -> Iterator[None]:
    """Have Ray keep a loopback address inside the block; otherwise it takes an outward one instead."""
    import ray._private.ray_constants as constants

    name = constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    before, told = constants.ENABLE_RAY_CLUSTER, os.environ.get(name)
    constants.ENABLE_RAY_CLUSTER = False
    os.environ[name] = "0"  # for the processes Ray starts
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before
        os.environ.pop(name)
        if told is not None:
            os.environ[name] = told


def is_loopback(address: str) -> bool:
    """Whether the node address of this process is loopback: then nothing may listen beyond it."""
    return address in (LOOPBACK, "::1", "localhost")


def interface_of(address: str) -> str | None:
    """Name of the network interface that has an IPv4 address; None if none has or the system does not say."""
    if not sys.platform.startswith("linux"):
        return None
    import fcntl
    import socket
    import struct

    siocgifaddr = 0x8915
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):
                answer = fcntl.ioctl(asked, siocgifaddr, struct.pack("256s", name.encode()[:15]))
                if socket.inet_ntoa(answer[20:24]) == address:
                    return name
    return None


def accepts_anyone() -> bool:
    """Whether the joined Ray answers without a token.

    Its dashboard is asked, as a stranger would; where it does not answer, what this process needed counts.
    """
    import ray
    from ray._private.authentication.authentication_utils import is_token_auth_enabled

    url = ray._private.worker.global_worker.node.webui_url
    if not is_token_auth_enabled():
        return True
    if not url:
        return False
    try:
        with urllib.request.urlopen(f"http://{url}/api/version", timeout=ANSWER_SECONDS) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False
