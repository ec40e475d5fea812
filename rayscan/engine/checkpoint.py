"""Checkpoints of a training: written off the step path, newest whole one wins.

    <place>/
      step-000000120-<attempt>/state.safetensors
      step-000000120-<attempt>/meta.json       put last: without it the checkpoint does not exist

Deviation from Ray Train's own checkpoints: its registry is one file rewritten in place, and a torn one stops
a restart. Here every checkpoint stands alone, with its size and sha256, and is verified when loaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rayscan.engine.tensors import pack, unpack
from rayscan.storage import Place

SCHEMA = 1
KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """State of a training after `step` steps."""

    step: int
    tensors: dict[str, Tensor]
    notes: dict[str, Any]


class Checkpoints:
    """Writer and reader of one training's checkpoints."""

    def __init__(self, place: Place, fingerprint: str) -> None:
        """Open.

        Args:
            place: Directory of this training alone.
            fingerprint: Of the step that trains; a checkpoint of another one is never loaded.
        """
        self.place = place
        self.fingerprint = fingerprint
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def save(self, step: int, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        """Copy the state now, write it in the background. Waits for the write before, if that still runs."""
        self.wait()
        copies = {k: v.detach().to("cpu", copy=True) for k, v in tensors.items()}
        text = json.dumps(dict(notes))
        self._pending = self._writer.submit(self._write, step, copies, text)

    def wait(self) -> None:
        """Wait until the last save is on storage; raises what it raised."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _write(self, step: int, tensors: Mapping[str, Tensor], notes: str) -> None:
        name = f"step-{step:09d}-{secrets.token_hex(4)}"
        data = pack(tensors)
        meta = {
            "schema": SCHEMA,
            "fingerprint": self.fingerprint,
            "step": step,
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "notes": json.loads(notes),
        }
        self.place.write(f"{name}/state.safetensors", data)
        self.place.write(f"{name}/meta.json", json.dumps(meta).encode())
        for old in sorted(self.place.names())[:-KEPT]:
            self.place.delete(old)

    def newest(self, device: torch.device | str = "cpu") -> Checkpoint | None:
        """The newest whole checkpoint; torn, altered and foreign ones are passed over."""
        for name in sorted(self.place.names(), reverse=True):
            with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
                meta = json.loads(self.place.read(f"{name}/meta.json"))
                if meta["schema"] != SCHEMA or meta["fingerprint"] != self.fingerprint:
                    continue
                data = self.place.read(f"{name}/state.safetensors")
                if len(data) != meta["size"] or hashlib.sha256(data).hexdigest() != meta["sha256"]:
                    continue
                return Checkpoint(int(meta["step"]), unpack(data, device), meta["notes"])
        return None

    def close(self) -> None:
        """Wait for the writer and end it."""
        self.wait()
        self._writer.shutdown()
