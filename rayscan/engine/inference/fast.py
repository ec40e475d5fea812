"""The fastest way to compute a frozen network here that is exact enough."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from rayscan.config.preprocessing import Preprocessing
from rayscan.engine.inference.choice import Precision, Wish, choose_engine, choose_precision
from rayscan.engine.inference.frozen import FrozenNet
from rayscan.engine.inference.openvino_net import OpenVinoNet
from rayscan.engine.inference.torch_net import TorchNet
from rayscan.errors import ConfigError


def fast_net(
    net: nn.Module,
    preprocessing: Preprocessing,
    *,
    num_rows: int,
    device: str = "cpu",
    batch_size: int = 64,
    threads: int | None = None,
    engine: Wish = "auto",
    precision: Precision | Literal["auto"] = "auto",
) -> FrozenNet:
    """Prepare a network for a pass over many images.

    Features in bf16 have a cosine of about 0.999 to those in float32 (docs/results/embedding.md): compare
    those of one engine and precision, as they stand in `facts`.

    Args:
        net: [B, 3, S, S] -> [B, D]; put into eval mode, and moved to the device.
        preprocessing: Sides, mean and standard deviation of its pixels.
        num_rows: Rows of the whole run; few are not worth compiling for.
        device: Where to compute.
        batch_size: Images per forward on a GPU.
        threads: Threads of OpenVINO; None takes torch's.
        engine: One by name, torch's own, or auto.
        precision: Of matrix products, or auto.

    Returns:
        uint8 [B, 3, S, S] -> float32 [B, D].

    Raises:
        ConfigError: an engine is asked for by name that cannot be used here.
    """
    chosen, note = choose_engine(engine, num_rows=num_rows, device=device), ""
    precision = choose_precision(precision, device=device)
    if chosen == "openvino":
        try:
            return OpenVinoNet(
                net, preprocessing, precision=precision, threads=threads or torch.get_num_threads()
            )
        except RuntimeError as error:  # a layer, a processor or a setting of its own that it cannot serve
            note = _without_openvino(error, engine)
            chosen = choose_engine("torch", num_rows=num_rows, device=device)
    is_compiled = chosen == "compiled"
    made = TorchNet(
        net, preprocessing, is_compiled=is_compiled, precision=precision, device=device, batch_size=batch_size
    )
    made.note = "; ".join(filter(None, (note, made.note)))
    return made


def _without_openvino(error: RuntimeError, asked: Wish) -> str:
    """What to note where OpenVINO failed that nobody asked for by name."""
    reason = str(error).strip().splitlines()[-1]
    if asked == "openvino":
        raise ConfigError(
            "OpenVINO cannot compute this network here",
            expected="a network that its CPU plugin compiles",
            got=reason,
            where="--embed.engine openvino",
            fix="pass --embed.engine torch, or auto",
        ) from error
    return f"OpenVINO failed, torch computes instead, more slowly: {reason}"
