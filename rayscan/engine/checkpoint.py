"""Checkpoints of a training: written off the step path, newest whole one wins.

    <place>/
      step-000000120-<attempt>/state.safetensors
      step-000000120-<attempt>/meta.json       put last: without it the checkpoint does not exist

Deviation from Ray Train's own checkpoints: its registry is one file rewritten in place, and a torn one stops
a restart. Here every checkpoint stands alone, sealed with sizes and sha256, and is verified when loaded. It
holds its own history, so that whichever is taken up, what was consumed is known exactly.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rayscan.engine.tensors import pack, unpack
from rayscan.errors import ArtifactError
from rayscan.storage import Place

SCHEMA = 3
KEPT = 2
PATIENCE_SECONDS = 600.0

STATE, META = "state.safetensors", "meta.json"
UNREADABLE = (FileNotFoundError, ValueError, KeyError, TypeError, NotADirectoryError)


@dataclass(frozen=True)
class Checkpoint:
    """State of a training after `step` steps."""

    step: int
    tensors: dict[str, Tensor]
    notes: dict[str, Any]
    name: str = ""


class Checkpoints:
    """Writer and reader of one training's checkpoints."""

    def __init__(self, place: Place, fingerprint: str, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Open the checkpoints of a training.

        Args:
            place: Directory of this training alone.
            fingerprint: Of the step that trains; a checkpoint of another one is never loaded.
            patience_seconds: How long a training goes on while nothing can be written.
        """
        self.place = place
        self.fingerprint = fingerprint
        self.patience_seconds = patience_seconds
        self.trouble = ""
        """Why the last write failed; empty if it did not."""
        self._failing_since: float | None = None
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a write is under way."""
        return self._pending is not None and not self._pending.done()

    def save(self, step: int, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        """Copy the state now, write it in the background. Waits for the write before, if that still runs.

        Raises:
            ArtifactError: nothing could be written for too long; the last whole checkpoint is kept.
        """
        self.wait()
        copies = {k: v.detach().to("cpu", copy=True) for k, v in tensors.items()}
        text = json.dumps(dict(notes))
        self._pending = self._writer.submit(self._write, step, copies, text)

    def wait(self) -> None:
        """Wait until the last save is on storage, or has failed.

        Raises:
            ArtifactError: nothing could be written for too long.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        try:
            pending.result()
        except (OSError, ArtifactError) as error:
            self._note_failure(error)
        else:
            self.trouble, self._failing_since = "", None

    def close(self) -> None:
        """Wait for the writer and end it."""
        try:
            self.wait()
        finally:
            self._writer.shutdown()

    def newest(self, device: torch.device | str = "cpu") -> Checkpoint | None:
        """The newest whole checkpoint; torn, altered and foreign ones are passed over."""
        for name in self._names():
            if (found := self.load(name, device)) is not None:
                return found
        return None

    def load(self, name: str, device: torch.device | str = "cpu") -> Checkpoint | None:
        """A checkpoint by its name; None if it is torn, altered, foreign or not there."""
        meta = self._meta(name)
        if meta is None:
            return None
        with contextlib.suppress(*UNREADABLE):
            data = self.place.read(f"{name}/{STATE}")
            if len(data) == meta["size"] and hashlib.sha256(data).hexdigest() == meta["sha256"]:
                return Checkpoint(int(meta["step"]), unpack(data, device), meta["notes"], name)
        return None

    def _names(self) -> list[str]:
        return [name for name in sorted(self.place.names(), reverse=True) if name.startswith("step-")]

    def _meta(self, name: str) -> dict[str, Any] | None:
        with contextlib.suppress(*UNREADABLE):
            meta: dict[str, Any] = json.loads(self.place.read(f"{name}/{META}"))
            is_sealed = meta.pop("seal") == _seal(meta)
            if is_sealed and meta["schema"] == SCHEMA and meta["fingerprint"] == self.fingerprint:
                return meta
        return None

    def _write(self, step: int, tensors: Mapping[str, Tensor], notes: str) -> None:
        _refuse_not_finite(step, tensors)
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
        try:
            self.place.write(f"{name}/{STATE}", data)
            self.place.write(f"{name}/{META}", json.dumps({**meta, "seal": _seal(meta)}).encode())
        except (OSError, ArtifactError):
            with contextlib.suppress(OSError, ArtifactError):
                self.place.delete(name)  # on a full disk its bytes are needed
            raise
        with contextlib.suppress(OSError, ArtifactError):  # what could not be removed is removed next time
            self._retire()

    def _retire(self) -> None:
        """Remove all but the newest whole checkpoints, and what deaths in mid-write have left."""
        names = self._names()
        whole = [name for name in names if self._meta(name) is not None]
        for name in set(names) - set(whole[:KEPT]):
            self.place.delete(name)

    def _note_failure(self, error: Exception) -> None:
        self.trouble = str(error).splitlines()[0]
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        if now - self._failing_since >= self.patience_seconds:
            raise ArtifactError(
                "no checkpoint could be written for too long",
                expected=f"one within {self.patience_seconds:g} s",
                got=error,
                where=self.place.uri,
                fix="make room, or wait for the storage; the same command goes on from the last whole one",
            ) from error


def _refuse_not_finite(step: int, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a state that holds NaN: it is none to go back to.

    Raises:
        ArtifactError: naming what is not finite.
    """
    bad = [k for k, v in tensors.items() if v.is_floating_point() and not bool(v.isfinite().all())]
    if bad:
        raise ArtifactError(
            f"the state after step {step} is not finite and is not kept: {', '.join(bad)}"[:300],
            expected="finite weights and state",
            got=f"nan or infinity in {len(bad)} of {len(tensors)} tensors",
        )


def _seal(meta: Mapping[str, Any]) -> str:
    """Sha256 over everything a checkpoint says of itself, so that a flipped bit in it is seen too."""
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()
