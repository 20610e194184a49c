"""AdamW with a rate for every parameter and every moment."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import torch
from torch import nn

from titans_seq.training.settings import TrainSettings


def build_optimizer(network: nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
    """Return AdamW over the network's trainable parameters, grouped by decay and rate.

    A parameter's attribute ``lr_scale`` (above 0, default 1) multiplies its rate; parameters
    of fewer than two axes, and those with ``no_weight_decay = True``, do not decay.
    """
    members: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for parameter in network.parameters():
        if not parameter.requires_grad:
            continue
        plain = parameter.ndim < 2 or getattr(parameter, "no_weight_decay", False)
        decay = 0.0 if plain else settings.weight_decay
        members[decay, float(getattr(parameter, "lr_scale", 1.0))].append(parameter)
    groups = [
        {"params": parameters, "weight_decay": decay, "lr_scale": scale}
        for (decay, scale), parameters in members.items()
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def rate_factor(settings: TrainSettings, done: float, epoch: int) -> float:
    """Return the learning rate of a step over its peak.

    Parameters
    ----------
    settings
        Names the schedule and the warm-up.
    done
        Share of training that lies behind, in [0, 1].
    epoch
        Epochs that lie behind.
    """
    warmup = settings.warmup_fraction
    if done < warmup:
        return max(done / warmup, 1e-3)
    if settings.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))
    if settings.schedule == "trapezoid":
        return late_fall(done)
    return 0.5**epoch if settings.schedule == "halving" else 1.0


def late_fall(done: float) -> float:
    """Return 1 until six tenths are done, then what falls to a hundredth.

    What forgets slowly, or writes little, is seen by its gradient least and learnt last: a rate
    that falls from the beginning would not wait for it.
    """
    return min(1.0, max(0.0, 1.0 - done) / 0.4 + 0.01)


def set_rate(groups: list[dict[str, Any]], rate: float) -> None:
    """Give every parameter group its share of ``rate``."""
    for group in groups:
        group["lr"] = rate * group["lr_scale"]
