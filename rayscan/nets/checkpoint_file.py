"""Checkpoint files that others wrote: safetensors, or torch files read without running their code.

Everything else in rayscan reads safetensors only. `weights_only` lets tensors, numbers, strings and
containers in, and nothing that could run; options of the training (`argparse.Namespace`), which published
checkpoints carry, are a bag of values and pass too.
"""

from __future__ import annotations

import argparse
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import load_file as load_safetensors_file

from rayscan.errors import ArtifactError
from rayscan.nets.not_weights import described

_UNPICKLER = "WeightsUnpickler error:"
SAVE_AGAIN = (
    "save the weights alone, where the file was made: "
    "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
)


def read_checkpoint_at(path: Path) -> Mapping[str, Any]:
    """Tensors of a local file; safetensors are mapped into memory, not copied.

    Raises:
        ArtifactError: it is neither kind of file, is cut off, or holds objects that are not plain values.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        head += file.read(min(int.from_bytes(head, "little"), size))
    if not _is_safetensors(head, size):
        return read_checkpoint(path.read_bytes(), str(path))
    try:
        return load_safetensors_file(path)
    except SafetensorError as error:
        raise _damaged(error, str(path)) from error


def read_checkpoint(data: bytes, where: str) -> Mapping[str, Any]:
    """Tensors by name, perhaps below names such as `state_dict`.

    Args:
        data: The whole file.
        where: Its address, for messages.

    Raises:
        ArtifactError: it is neither kind of file, or holds objects that are not plain values.
    """
    if (known := described(data)) is not None:
        what, fix = known
        raise ArtifactError(
            "the checkpoint is no file of weights",
            expected="safetensors, or a torch file of tensors",
            got=what,
            where=where,
            fix=fix,
        )
    if _is_safetensors(data, len(data)):
        try:
            return load_safetensors(data)
        except SafetensorError as error:
            raise _damaged(error, where) from error
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            tree = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever a broken zip or pickle makes it raise
        raise ArtifactError(
            "the checkpoint cannot be read without running code from it",
            expected="safetensors, or a torch file of tensors, numbers, strings and containers",
            got=_reason(error),
            where=where,
            fix=SAVE_AGAIN,
        ) from error
    if not isinstance(tree, Mapping):
        raise ArtifactError(
            "the checkpoint is no table of named tensors",
            expected="a dict",
            got=type(tree).__name__,
            where=where,
            fix=SAVE_AGAIN,
        )
    return tree


def _damaged(error: SafetensorError, where: str) -> ArtifactError:
    return ArtifactError(
        "the file of weights is damaged",
        expected="whole safetensors",
        got=str(error)[:200],
        where=where,
        fix="fetch or copy it again",
    )


def _reason(error: Exception) -> str:
    """What torch says, but for its advice to read the file unsafely."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if _UNPICKLER in line), lines[0] if lines else type(error).__name__)
    words = told.rpartition(_UNPICKLER)[2].strip()
    words = re.split(r" by default| Please | Weights only| In PyTorch", words)[0][:200]
    return words if " " in words else f"no pickle of torch ({type(error).__name__})"


def _is_safetensors(data: bytes, size: int) -> bool:
    """Whether a file of some size begins as safetensors do: the length of a JSON header, and the header."""
    length = int.from_bytes(data[:8], "little")
    if not 2 <= length <= size - 8:
        return False
    try:
        return isinstance(json.loads(data[8 : 8 + length]), dict)
    except ValueError:
        return False
