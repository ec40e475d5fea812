"""The command that brings weights of others to this machine."""

from __future__ import annotations

import sys
from typing import Annotated

from tyro.conf import Positional, arg


def fetch(name: Positional[Annotated[str, arg(metavar="NAME")]]) -> None:
    """Download a pretrained network, once: no other command does.

    huggingface_hub does it, with its HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and proxies. The same
    command again does nothing, or goes on.

    Args:
        name: A name of the catalog, or timm/NAME for any other network that timm has weights of.
    """
    from rayscan.catalog import pretrained
    from rayscan.console.units import size
    from rayscan.pretrained.describe import UNKNOWN, described
    from rayscan.pretrained.fetch import facts_of
    from rayscan.pretrained.fetch import fetch as download

    entry = described(pretrained(name))
    weights = download(entry)
    facts = facts_of(entry, weights) | {"trained_with": entry.trained_with or UNKNOWN}
    rows = {
        "licence": facts["licence"],
        "trained with": facts["trained_with"],
        "source": facts["source"],
        "revision": facts["revision"],
        "sha256": facts["sha256"],
        "size": size(facts["bytes"]),
        "file": facts["path"],
    }
    note = f" ({entry.note})" if entry.note else ""
    sys.stdout.write(f"{entry.name}{note}\n")
    sys.stdout.write("".join(f"  {title:14}{value}\n" for title, value in rows.items()))
