"""The service of a run put together: for the command, and for Ray Serve's own configuration files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from typing import Any

from rayscan.config.serve import ServeConfig
from rayscan.errors import ConfigError
from rayscan.fleet import service
from rayscan.fleet.service_settings import ServiceSettings
from rayscan.serving.replica import Replica
from rayscan.serving.token import read_token


def application(
    run: str, config: ServeConfig, allow_store: tuple[str, ...], token: str, *, listens: bool = False
) -> Any:
    """The service as Ray Serve takes it.

    Args:
        run: The --out of a finished run, which every machine can read.
        config: How it listens, what it takes, how it grows.
        allow_store: Folders whose addresses requests may name.
        token: What requests must bear.
        listens: At the address of `config`; else Ray Serve's proxies do, as its own configuration says.
    """
    settings = ServiceSettings(config, hashlib.sha256(token.encode()).hexdigest(), listens)
    return service.application(partial(Replica, run, config, allow_store), settings)


def build(args: Mapping[str, Any]) -> Any:
    """The service from the `args` of a Ray Serve configuration file (jobs/serve.yaml).

    Args:
        args: run, token_file, and optionally allow_store and settings of `ServeConfig` by name.

    Raises:
        ConfigError: one is missing or unknown.
    """
    own = ("run", "token_file", "allow_store")
    unknown = args.keys() - {*own, *(field.name for field in fields(ServeConfig))}
    if unknown or not {"run", "token_file"} <= args.keys():
        raise ConfigError(
            "the arguments of the service cannot be used",
            expected=f"run, token_file, allow_store, {', '.join(f.name for f in fields(ServeConfig))}",
            got=", ".join(args) or "none",
            where="args",
            fix="see jobs/serve.yaml",
        )
    config = ServeConfig(**{name: value for name, value in args.items() if name not in own})
    return application(
        args["run"], config, tuple(args.get("allow_store", ())), read_token(args["token_file"])
    )
