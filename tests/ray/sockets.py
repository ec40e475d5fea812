"""Which sockets the processes below one listen on, read from /proc."""

from __future__ import annotations

import contextlib
import ipaddress
from dataclasses import dataclass
from pathlib import Path

LISTENS = "0A"


@dataclass(frozen=True)
class Listening:
    """A socket that takes connections."""

    address: str
    port: int
    process: str

    @property
    def is_closed_to_others(self) -> bool:
        """Whether it is reached from this machine only."""
        found = ipaddress.ip_address(self.address)
        mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
        return (mapped or found).is_loopback


def below(root: int) -> list[int]:
    """Processes that descend from `root`, itself among them."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = {root}
    while grown := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= grown
    return sorted(found)


def listening(root: int) -> list[Listening]:
    """TCP sockets in state LISTEN, and bound UDP sockets, of `root` and what descends from it."""
    owners = {}
    for pid in below(root):
        with contextlib.suppress(OSError):
            name = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:200]
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    target = str(link.readlink())
                    if target.startswith("socket:["):
                        owners[target[8:-1]] = f"{pid} {name}"
    found = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            is_open = fields[3] == LISTENS if table.startswith("tcp") else fields[2].endswith(":0000")
            if is_open and fields[9] in owners:
                host, _, port = fields[1].partition(":")
                found.add(Listening(_address(host), int(port, 16), owners[fields[9]]))
    return sorted(found, key=lambda s: (s.process, s.port))


def _address(text: str) -> str:
    """The kernel writes addresses as native-endian 32-bit words in hex."""
    raw = b"".join(bytes.fromhex(text[i : i + 8])[::-1] for i in range(0, len(text), 8))
    return str(ipaddress.ip_address(raw))
