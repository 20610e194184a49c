"""Batches that are dealt out among processes, so that all together learn from the whole batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from titans_seq.training.fit import Term, mean_of
from titans_seq.training.ranks import World, all_reduce_sum, world


class Share(NamedTuple):
    """What one of several processes has of a batch."""

    batch: Any

    rows: int
    """Rows of it that count: where there are none, ``batch`` has one that does not."""


def deal(batch: Any, mine: World) -> Share:
    """Return the share of this process in a batch.

    Both halves of a batch are dealt out row by row, each process keeping the rows in their
    order: what a loss does with the first half of a batch it does with that of each share.
    """
    size = batch_size(batch)
    if mine.size == 1:
        return Share(batch, size)
    half = -(-size // 2)
    rows = torch.arange(size)
    own = torch.cat([part[mine.rank :: mine.size] for part in rows.split(half or 1)])
    return Share(_take(batch, own if len(own) else rows[:1]), len(own))


def _take(batch: Any, rows: Tensor) -> Any:
    """Return some rows of every tensor of a batch, however it is nested."""
    if isinstance(batch, Tensor):
        return batch[rows]
    if isinstance(batch, dict):
        return {name: _take(value, rows) for name, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_take(value, rows) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(_take(value, rows) for value in batch)
    return batch


def batch_size(batch: Any) -> int:
    """Return the length of the first tensor of a batch, however it is nested."""
    if isinstance(batch, Tensor):
        return batch.shape[0]
    values = batch.values() if isinstance(batch, dict) else batch
    for value in values:
        if isinstance(value, Tensor | dict | list | tuple):
            return batch_size(value)
    raise TypeError("a batch must hold a tensor")


def dealt_loss(found: Tensor | Sequence[Term], share: Share) -> tuple[Tensor, Tensor, Tensor | int]:
    """Return what this process learns from, the loss of the whole batch, and its rows.

    Gradients are averaged over the processes. What each learns from is its errors over the
    number of all, times the number of processes: so that the average is the gradient of the
    whole batch, however many rows each process has.
    """
    if world().size == 1:
        loss = found if isinstance(found, Tensor) else mean_of(found)
        return loss, loss.detach(), share.rows
    size = batch_size(share.batch)
    terms = [Term(found * size, torch.tensor(size))] if isinstance(found, Tensor) else found
    counts = bool(share.rows)
    own = [value.detach() * counts for term in terms for value in term]
    *parts, rows = all_reduce_sum(stacked(*own, share.rows)).unbind()
    each, numbers = parts[::2], [number.clamp(min=1) for number in parts[1::2]]
    whole = torch.stack([total / number for total, number in zip(each, numbers, strict=True)]).sum()
    weight = world().size * counts
    shares = [
        term.total * (weight / number).to(term.total.dtype)
        for term, number in zip(terms, numbers, strict=True)
    ]
    return torch.stack(shares).sum(), whole.to(terms[0].total.dtype), rows


def stacked(*values: Any) -> Tensor:
    """Return scalars as one vector, on the device of the tensors among them."""
    tensors = [
        value for value in values if isinstance(value, Tensor) and value.device.type != "cpu"
    ]
    device = tensors[0].device if tensors else torch.device("cpu")
    return torch.stack([torch.as_tensor(v, dtype=torch.float64).to(device) for v in values])
