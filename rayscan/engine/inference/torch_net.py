"""Torch as the engine: plain, or compiled with the weights frozen into the program."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rayscan.config.preprocessing import Preprocessing
from rayscan.engine.compiled_programs import use_private_cache
from rayscan.engine.inference.choice import Precision
from rayscan.engine.inference.frozen import FrozenNet
from rayscan.engine.inference.normalised import Normalised

CPU_CHUNK = 16


class TorchNet(FrozenNet):
    """Torch, channels-last, under autocast where the precision is bf16."""

    def __init__(
        self,
        net: nn.Module,
        preprocessing: Preprocessing,
        *,
        is_compiled: bool,
        precision: Precision,
        device: str,
        batch_size: int,
    ) -> None:
        """Take a network; it is moved to the device in place.

        Args:
            net: [B, 3, S, S] -> [B, D].
            preprocessing: What its pixels are.
            is_compiled: Compile now. If that fails, which `note` then says, plain torch it is.
            precision: Of matrix products.
            device: Where to compute.
            batch_size: Images per forward on a GPU, halved after an out-of-memory; a CPU takes CPU_CHUNK.
        """
        self._device = torch.device(device)
        self.engine, self.precision = "eager", precision
        self.version = f"torch {torch.__version__}"
        self.chunk = batch_size if self._device.type == "cuda" else CPU_CHUNK
        model = Normalised(net.eval(), preprocessing).to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._net: Callable[[Tensor], Tensor] = model
        if is_compiled:
            self._compile(model, preprocessing.size_px)

    def _compile(self, model: nn.Module, size: int) -> None:
        """Fold batch normalisation and prepack weights (freezing), fuse the rest."""
        use_private_cache()
        # On a GPU freezing wins nothing and keeps the weights twice.
        is_freezing = self._device.type == "cpu"
        try:
            self._net = torch.compile(model, options={"freezing": is_freezing})
            self._forward(torch.zeros((self.chunk, 3, size, size), dtype=torch.uint8))
        except torch.OutOfMemoryError:
            self.engine = "compiled"  # the first batch finds the size that fits
        except Exception as error:  # whatever a compiler's absence or failure raises
            self._net = model
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            self.note = f"torch.compile failed, plain torch computes instead, more slowly: {reason}"
        else:
            self.engine = "compiled"

    # Not inference_mode: torch.compile would not freeze.
    @torch.no_grad()
    def _forward(self, pixels: Tensor) -> Tensor:
        rows = []
        is_half = self.precision == "bf16"
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=is_half):
            for chunk in pixels.split(self.chunk):
                there = chunk.contiguous(memory_format=torch.channels_last).to(
                    self._device, non_blocking=True
                )
                rows.append(self._net(there).float())
        return torch.cat(rows).cpu()
