"""One call that trains a network, quietly and without files, for both heads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from titans_seq.exceptions import DataError, DivergedError
from titans_seq.training.device import pick_device
from titans_seq.training.history import History
from titans_seq.training.settings import TrainSettings
from titans_seq.training.shards import is_sharded, twin, whole


class Term(NamedTuple):
    """A mean that is a part of a loss, as the batch may be dealt out among processes."""

    total: Tensor
    """Sum of errors."""

    number: Tensor
    """How many they are; a sum over nothing is divided by one."""


Loss = Callable[[Any, Any], Tensor | Sequence[Term]]
"""``loss(network, batch)``: a scalar, the mean over the rows of the batch; or means over other
numbers than that of the rows, which are added up."""


def mean_of(terms: Sequence[Term]) -> Tensor:
    """Return the sum of the means of a loss."""
    first, *others = (total / number.clamp(min=1) for total, number in terms)
    return sum(others, start=first)


ValidationLoss = Callable[[Any, Any], tuple[Any, Any]]
"""``validation_loss(network, batch)``: sum of the errors, and how many they are."""


_SHOWN = ContextVar("shown", default=False)
_MOST_STEPS: ContextVar[int | None] = ContextVar("most_steps", default=None)


@contextmanager
def showing_progress() -> Iterator[None]:
    """Let every training inside show a bar on standard error, if that is a terminal."""
    before = _SHOWN.set(True)
    try:
        yield
    finally:
        _SHOWN.reset(before)


@contextmanager
def at_most(steps: int | None) -> Iterator[None]:
    """Let no training inside take more optimizer steps than that; None sets no bound."""
    before = _MOST_STEPS.set(steps)
    try:
        yield
    finally:
        _MOST_STEPS.reset(before)


class Batches(Protocol):
    """Batches of one epoch; every ``iter()`` begins a new one, shuffled by its owner.

    A checkpoint keeps what their order depends on: an attribute ``generator``, the numpy
    generator that shuffles them, or ``epoch``, the number of the next epoch.
    """

    def __len__(self) -> int:
        """Return how many batches an epoch has."""

    def __iter__(self) -> Iterator[Any]:
        """Begin an epoch."""


def train(
    network: nn.Module,
    loss: Loss,
    batches: Batches,
    *,
    validation: Batches | None = None,
    settings: TrainSettings,
    validation_loss: ValidationLoss | None = None,
    seed: int = 0,
) -> History:
    """Train ``network`` in place; leave it with its best weights, in eval mode, on its device.

    Parameters
    ----------
    network
        What to train; the losses call it.
    loss
        ``loss(network, batch)``: a scalar, the mean over the rows of the batch, or
        :class:`Term` of such means.
    batches
        Batches of one epoch (dicts or tuples of tensors), anew at every ``iter()``; inside
        :func:`titans_seq.training.distributed` the same in every process, which deals its
        rows out.
    validation
        Batches that choose the epoch whose weights are kept; without them the last one's are.
    settings
        How long, how fast, and where.
    validation_loss
        ``validation_loss(network, batch)``: a sum of errors and their number. Left out, it is
        the mean of ``loss`` over the examples.
    seed
        Of dropout and whatever else draws from torch's generator inside; the caller's own
        generator is left as it was.

    Raises
    ------
    DataError
        If there is not one training batch.
    DeviceError
        If ``settings.device`` is not there.
    DivergedError
        If a loss or a gradient is not finite; the network then has the last good weights.
    """
    if not len(batches):
        raise DataError("there is not one batch to train on")
    device = pick_device(settings.device)
    # In here, so that a head that only predicts does not wait for Lightning.
    from titans_seq.training.run import run
    from titans_seq.training.task import Task

    if _SHOWN.get():
        settings = dataclasses.replace(settings, progress=True)
    if _MOST_STEPS.get() is not None:
        settings = dataclasses.replace(settings, max_steps=_MOST_STEPS.get())
    total_steps = len(batches) * settings.max_epochs
    if settings.max_steps is not None:
        total_steps = min(total_steps, settings.max_steps)
    sharded = is_sharded()
    trained = twin(network) if sharded else network
    task = Task(trained, loss, validation_loss, settings, total_steps)
    complete = not sharded  # shares come together only if all processes are here
    try:
        run(task, batches, validation, device, seed)
        complete = True
    except DivergedError:  # in all processes at once
        complete = True
        raise
    finally:
        if complete:
            network.load_state_dict({name: whole(value) for name, value in task.kept.items()})
        network.to(device).eval()
    return History(
        epochs=tuple(task.records),
        best_epoch=task.best_epoch,
        steps=task.steps,
        stopped_by=task.stopped_by,
        device=str(device),
    )
