"""Which engine and precision: from the machine, the number of rows and what is asked; nothing is timed."""

from __future__ import annotations

import importlib.util
from typing import Literal

import torch

from rayscan.errors import ConfigError
from rayscan.processor import has_bf16_units

EngineName = Literal["openvino", "compiled", "eager"]
Wish = EngineName | Literal["auto", "torch"]
Precision = Literal["bf16", "fp32"]

COMPILE_FROM_ROWS = {"cpu": 6_000, "cuda": 50_000}
"""Rows from which torch.compile pays. On a CPU it takes 10 to 25 s and saves 2 to 7 ms a row
(docs/results/embedding.md); the number for GPUs is an estimate."""


def choose_engine(asked: Wish, *, num_rows: int, device: str) -> EngineName:
    """The engine for a pass over images.

    Args:
        asked: A name; torch: torch.compile where the rows are worth it, else plain torch; or auto: OpenVINO
            on a CPU where it is installed, else torch.
        num_rows: Rows of the whole run, not of one task: all tasks of a run then choose alike.
        device: Of torch.

    Raises:
        ConfigError: OpenVINO is asked for and is not installed, or the device is a GPU.
    """
    kind = torch.device(device).type
    is_installed = importlib.util.find_spec("openvino") is not None
    if asked == "openvino" and not (is_installed and kind == "cpu"):
        raise ConfigError(
            "the engine openvino cannot be used",
            expected="a CPU, and the package openvino",
            got=f"device {device}, openvino {'installed' if is_installed else 'not installed'}",
            where="embed.engine",
            fix="pip install 'rayscan[openvino]', or let the engine be chosen: auto",
        )
    if asked != "auto" and asked != "torch":
        return asked
    if asked == "auto" and kind == "cpu" and is_installed:
        return "openvino"
    return "compiled" if num_rows >= COMPILE_FROM_ROWS.get(kind, COMPILE_FROM_ROWS["cpu"]) else "eager"


def engine_family(engine: EngineName) -> Literal["openvino", "torch"]:
    """What a setting calls an engine: compiled or not, torch is torch."""
    return "openvino" if engine == "openvino" else "torch"


def is_usable(engine: Wish) -> bool:
    """Whether this machine can compute by an engine."""
    if engine != "openvino":
        return True
    return importlib.util.find_spec("openvino") is not None and not torch.cuda.is_available()


def choose_precision(asked: Precision | Literal["auto"], *, device: str) -> Precision:
    """The precision of matrix products: bf16 where the device computes in it, else fp32.

    Args:
        asked: A name, or auto.
        device: Of torch.
    """
    if asked != "auto":
        return asked
    if torch.device(device).type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if has_bf16_units() else "fp32"
