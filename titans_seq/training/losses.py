"""Losses: means over the rows of a batch, also where several processes share those rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from titans_seq.training.batches import BatchShard, batch_size
from titans_seq.training.ranks import all_reduce_sum, world


class Term(NamedTuple):
    """A mean that is one summand of a loss, as a sum and a count."""

    total: Tensor
    """Sum of errors."""

    number: Tensor
    """Count of errors; 0 is treated as 1 in the division."""


Loss = Callable[[Any, Any], Tensor | Sequence[Term]]
"""``loss(network, batch)``: a scalar, the mean over the rows of the batch; or terms, the sum of
whose means is the loss, where the counts are not the number of rows."""


def mean_of(terms: Sequence[Term]) -> Tensor:
    """Return the sum of the means of a loss."""
    first, *others = (total / number.clamp(min=1) for total, number in terms)
    return sum(others, start=first)


ValidationLoss = Callable[[Any, Any], tuple[Any, Any]]
"""``validation_loss(network, batch)``: sum and count of errors."""


class ShardLoss(NamedTuple):
    """Loss of a batch whose rows several processes share."""

    backward: Tensor
    """What this process differentiates."""

    value: Tensor
    """Loss of the whole batch, without a gradient."""

    rows: Tensor | int
    """Rows of the whole batch."""


def shard_loss(loss: Tensor | Sequence[Term], shard: BatchShard) -> ShardLoss:
    """Combine the losses of all processes on their rows of one batch.

    DDP and FSDP average gradients over processes. So each process differentiates its sum of
    errors over the count of all processes, times the number of processes: the average is then
    the gradient of the whole batch, however unevenly its rows are divided.
    """
    if world().size == 1:
        value = loss if isinstance(loss, Tensor) else mean_of(loss)
        return ShardLoss(value, value.detach(), shard.rows)
    size = batch_size(shard.batch)
    terms = [Term(loss * size, torch.tensor(size))] if isinstance(loss, Tensor) else loss
    has_rows = bool(shard.rows)  # without rows the loss is of a placeholder row, and weighs 0
    own = [value.detach() * has_rows for term in terms for value in term]
    # One vector (total, number, total, number, ..., rows), so that one all-reduce is enough.
    *sums, rows = all_reduce_sum(_stack_scalars(*own, shard.rows)).unbind()
    totals, numbers = sums[::2], [number.clamp(min=1) for number in sums[1::2]]
    means = [total / number for total, number in zip(totals, numbers, strict=True)]
    weight = world().size * has_rows
    weighted = [
        term.total * (weight / number).to(term.total.dtype)
        for term, number in zip(terms, numbers, strict=True)
    ]
    value = torch.stack(means).sum().to(terms[0].total.dtype)
    return ShardLoss(torch.stack(weighted).sum(), value, rows)


class RunningLoss:
    """Mean of a loss over batches, from sums and counts; read from the device only at the end."""

    def __init__(self) -> None:
        self.total: Any = 0.0
        self.count: Any = 0.0

    def add(self, total: Any, count: Any) -> None:
        """Add a sum of ``count`` values."""
        self.total = self.total + total
        self.count = self.count + count

    def all_reduce(self) -> None:
        """Add the sums and counts of the other processes."""
        if world().size > 1:
            self.total, self.count = all_reduce_sum(_stack_scalars(self.total, self.count)).unbind()

    @property
    def value(self) -> float:
        """The mean so far; NaN of nothing."""
        return float(self.total) / float(self.count) if float(self.count) else math.nan


def _stack_scalars(*values: Any) -> Tensor:
    """Return scalars as one float64 vector, on the device of the tensors among them."""
    accelerated = [
        value for value in values if isinstance(value, Tensor) and value.device.type != "cpu"
    ]
    device = accelerated[0].device if accelerated else torch.device("cpu")
    return torch.stack([torch.as_tensor(v, dtype=torch.float64).to(device) for v in values])
