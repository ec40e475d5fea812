"""Optimizers and the learning rate as a pure function of the step."""

from __future__ import annotations

import math

import torch
from torch import nn

from rayscan.config import OptimizerConfig
from rayscan.engine.lars import Lars


def build_optimizer(net: nn.Module, settings: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimizer over the trainable weights of `net`, fused where torch has it for the device.

    Weight decay leaves biases and normalisation weights alone unless `decay_norms`.
    """
    trainable = [p for p in net.parameters() if p.requires_grad]
    decayed = [p for p in trainable if settings.decay_norms or p.ndim > 1]
    spared = [p for p in trainable if not (settings.decay_norms or p.ndim > 1)]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    rate = settings.learning_rate
    is_fused = trainable[0].is_cuda
    if settings.kind == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=0.9, fused=is_fused)
    if settings.kind == "lars":
        return Lars(groups, rate)
    algorithm = torch.optim.Adam if settings.kind == "adam" else torch.optim.AdamW
    return algorithm(groups, lr=rate, fused=is_fused)


def learning_rate(settings: OptimizerConfig, step: int, steps_per_epoch: int, epochs: int) -> float:
    """Learning rate of a step: linear warm-up, then constant or a cosine over the rest, per step.

    Args:
        settings: Peak, warm-up and shape.
        step: Steps taken so far, from 0.
        steps_per_epoch: Steps of an epoch.
        epochs: Epochs of the whole training.
    """
    warmup = settings.warmup_epochs * steps_per_epoch
    if step < warmup:
        return settings.learning_rate * (step + 1) / (warmup + 1)
    if settings.schedule == "constant":
        return settings.learning_rate
    progress = (step - warmup) / max(1.0, steps_per_epoch * epochs - warmup)
    share = settings.final_fraction + (1 - settings.final_fraction) * 0.5 * (
        1 + math.cos(math.pi * min(1.0, progress))
    )
    return settings.learning_rate * share


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimizer's state as flat named tensors: `<number of the weight>.<name>`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{i}.{k}": torch.as_tensor(v)
        for i, entry in state.items()
        for k, v in entry.items()
        if v is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Load into an optimizer the state that `optimizer_tensors` gave."""
    whole = optimizer.state_dict()
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
