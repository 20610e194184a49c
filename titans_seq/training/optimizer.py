"""AdamW over parameter groups, and the learning-rate schedules."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import nn

from titans_seq.training.settings import TrainSettings


class ParameterGroup(NamedTuple):
    """Parameters that share a learning rate and the choice of weight decay."""

    parameters: Iterable[nn.Parameter]

    lr_scale: float = 1.0
    """Factor of the learning rate, above 0."""

    weight_decay: bool = True
    """Whether parameters of two axes or more decay; those of fewer never do."""


@runtime_checkable
class HasParameterGroups(Protocol):
    """A module whose parameters are not all trained alike."""

    def parameter_groups(self) -> Iterable[ParameterGroup]:
        """Return groups of the module's parameters; those left out are trained by the defaults.

        Called when the optimizer is built, after FSDP has replaced the parameters, so look them
        up anew at each call.
        """


def build_optimizer(network: nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
    """Return AdamW over the network's trainable parameters, grouped by weight decay and rate.

    Groups come from the modules that have a method ``parameter_groups``; where two name the same
    parameter, the outer module decides. The optimizer's groups are ordered by their first
    parameter in ``network.parameters()``.
    """
    offered: dict[nn.Parameter, ParameterGroup] = {}
    for module in network.modules():  # an outer module comes before those inside it
        if isinstance(module, HasParameterGroups):
            for group in module.parameter_groups():
                for parameter in group.parameters:
                    offered.setdefault(parameter, group)
    members: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    default = ParameterGroup(())
    for parameter in network.parameters():
        if not parameter.requires_grad:
            continue
        group = offered.get(parameter, default)
        decays = group.weight_decay and parameter.ndim >= 2
        members[settings.weight_decay if decays else 0.0, group.lr_scale].append(parameter)
    groups = [
        {"params": parameters, "weight_decay": decay, "lr_scale": scale}
        for (decay, scale), parameters in members.items()
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def rate_factor(settings: TrainSettings, done: float, epoch: int) -> float:
    """Return the learning rate of a step, relative to its peak.

    Parameters
    ----------
    settings
        Schedule and warm-up.
    done
        Completed fraction of the training, in [0, 1].
    epoch
        Completed epochs.
    """
    warmup = settings.warmup_fraction
    if done < warmup:
        # Not 0 in the first step, which would move nothing but AdamW's moments.
        return max(done / warmup, 1e-3)
    if settings.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))
    if settings.schedule == "trapezoid":
        return trapezoid_decay(done)
    return 0.5**epoch if settings.schedule == "halving" else 1.0


def trapezoid_decay(done: float) -> float:
    """Return 1 for the first 60% of a training, then a linear decay to 0.01.

    Parameters with small gradients, such as those of a memory that forgets slowly or writes
    little, are learnt last; a rate that decays from the start is too low for them by then.
    """
    return min(1.0, max(0.0, 1.0 - done) / 0.4 + 0.01)


def set_rate(groups: list[dict[str, Any]], rate: float) -> None:
    """Set the learning rate of every parameter group to ``rate`` times its scale."""
    for group in groups:
        group["lr"] = rate * group["lr_scale"]
