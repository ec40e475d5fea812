"""The token that requests must bear."""

from __future__ import annotations

import secrets
from pathlib import Path

from rayscan.errors import ConfigError

LEAST_TOKEN = 16
"""Characters."""


def read_token(path: str) -> str:
    """The token in a file, without blanks around it.

    Raises:
        ConfigError: there is none, or it is too short.
    """
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            "the token cannot be read", expected="a text file", got=error, where=path
        ) from error
    if len(token) < LEAST_TOKEN or not token.isascii() or " " in token:
        raise ConfigError(
            "the token cannot be used",
            expected=f"{LEAST_TOKEN} and more ASCII characters without blanks",
            got=f"{len(token)} characters",
            where=path,
            fix="python -c 'import secrets; print(secrets.token_urlsafe(32))' > FILE",
        )
    return token


def new_token() -> str:
    """A token nobody can guess."""
    return secrets.token_urlsafe(32)
