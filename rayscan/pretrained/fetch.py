"""The one place that downloads: a file of weights from the hub, by huggingface_hub, when a person asks.

HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and proxies are the library's, and so is the progress bar. A
connection that breaks is taken up where it broke. The file gets its name in the cache once it is whole.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rayscan.catalog import Pretrained
from rayscan.errors import ConfigError, FleetError, RayscanError
from rayscan.pretrained.cache import INDENT, Weights, bundled, by_hand, find_weights
from rayscan.pretrained.describe import described, weight_files
from rayscan.version import __version__

CONFIG = "config.json"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (401, 403)


def fetch(entry: Pretrained) -> Weights:
    """Download the weights of a network, unless they are there, and record what came.

    Only the file of weights and timm's config.json are taken.

    Raises:
        ConfigError: the hub does not know the repository, shows it to those alone who accepted its licence,
            or HF_HUB_OFFLINE forbids to ask.
        FleetError: the hub cannot be reached, breaks off, or the disk is full.
        ArtifactError: the file is not what the hub says it is.
    """
    known = described(entry)
    if known.repo is None:
        return bundled()
    with _told(known):
        _download_first(known.repo, weight_files(known))
        _download_first(known.repo, (CONFIG,), is_needed=False)
    weights = find_weights(known)
    _record(known, weights)
    return weights


def _download_first(repo: str, names: tuple[str, ...], *, is_needed: bool = True) -> None:
    """Download the first of some files that the repository has."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for name in names:
        try:
            if not isinstance(try_to_load_from_cache(repo, name), str):
                get_hf_file_metadata(hf_hub_url(repo, name))  # fails at once where a download tries for long
            hf_hub_download(repo, name, library_name="rayscan", library_version=__version__)
        except LocalEntryNotFoundError:  # the hub was not asked
            if is_needed:
                raise
        except EntryNotFoundError:
            continue
        return
    if is_needed:
        raise ConfigError(
            "the repository has no file of weights that rayscan reads",
            expected=" or ".join(names),
            got="neither" if len(names) > 1 else "no such file",
            where=repo,
        )


@contextmanager
def _told(entry: Pretrained) -> Iterator[None]:
    """Turn what the library raises into errors that say what to do."""
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        FileMetadataError,
        HfHubHTTPError,
        HTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        yield
    except RayscanError:
        raise
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in FORBIDDEN or isinstance(error, RepositoryNotFoundError):
            raise _refused(entry, error, status) from error
        raise _unreachable(entry, error) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise _not_asked(entry, error) from error
    except (HTTPError, FileMetadataError) as error:
        raise _unreachable(entry, error) from error
    except OSError as error:
        raise _not_written(entry, error) from error


def _refused(entry: Pretrained, error: Exception, status: int) -> ConfigError:
    from huggingface_hub.errors import GatedRepoError

    if entry.is_gated or isinstance(error, GatedRepoError):
        return ConfigError(
            "the hub gives these weights to those who accepted their licence",
            expected=f"the token of an account that has accepted it ({entry.licence})",
            got=f"status {status}",
            where=entry.repo,
            fix="accept the licence on the page of the repository on the hub, make a token that may read it,"
            f" then{INDENT}HF_TOKEN=... rayscan fetch {entry.name}",
        )
    return ConfigError(
        "the hub shows no such repository",
        expected="a public one, or a token that may read it",
        got=f"status {status}",
        where=entry.repo,
        fix="if it is private or gated: accept its licence on its page on the hub, and set HF_TOKEN",
    )


def _not_asked(entry: Pretrained, error: Exception) -> RayscanError:
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return ConfigError(
            "HF_HUB_OFFLINE is set, and the weights are not in the cache",
            expected="the file in the cache",
            got="no whole file",
            where=entry.repo,
            fix=f"unset HF_HUB_OFFLINE{INDENT}{by_hand(entry)}",
        )
    return _unreachable(entry, error)


def _unreachable(entry: Pretrained, error: Exception) -> FleetError:
    root = error.__cause__ or error.__context__ or error
    return FleetError(
        "the hub cannot be reached, or broke off",
        expected="an answer",
        got=_first_line(root),
        where=f"{entry.repo}; the hub's address is HF_ENDPOINT if that is set",
        fix=f"try again; look at HF_ENDPOINT and HTTPS_PROXY{INDENT}{by_hand(entry)}",
    )


def _not_written(entry: Pretrained, error: OSError) -> FleetError:
    from huggingface_hub.constants import HF_HUB_CACHE

    is_full = error.errno in NO_ROOM
    return FleetError(
        "there is no room for the weights" if is_full else "the weights cannot be written whole",
        expected=f"room for the file of {entry.repo}" if is_full else "a whole file",
        got=_first_line(error),
        where=HF_HUB_CACHE,
        fix="make room, or set HF_HOME to a larger disk" if is_full else "try again",
    )


def _first_line(error: BaseException) -> str:
    """What an error says first, without the secrets that an address may hold: passwords and signatures."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    return re.sub(r"\?[^\s'\"]+", "", re.sub(r"//[^/@\s]+@", "//", text))[:200]


def facts_of(entry: Pretrained, weights: Weights) -> dict[str, Any]:
    """Name, licence, training, revision, hash, size and place of fetched weights, for people and records."""
    return {
        "name": entry.name,
        "source": weights.source,
        "licence": weights.licence,
        "trained_with": entry.trained_with,
        "revision": weights.revision,
        "sha256": weights.sha256,
        "bytes": weights.path.stat().st_size,
        "path": str(weights.path),
    }


def record_path(entry: Pretrained) -> Path:
    """Where the record of a fetch lies: rayscan's own folder of the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "rayscan" / "fetched" / f"{entry.name.replace('/', '--')}.json"


def _record(entry: Pretrained, weights: Weights) -> None:
    """Keep what was fetched, for who asks later where a file is from."""
    path = record_path(entry)
    text = json.dumps({**asdict(entry), **facts_of(entry, weights)}, indent=1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", encoding="ascii")
    except OSError as error:
        raise FleetError(
            "the weights are here, but what they are cannot be recorded",
            expected="a folder that may be written",
            got=_first_line(error),
            where=path,
            fix="set XDG_CACHE_HOME to one, and repeat the command: it downloads nothing again",
        ) from error
