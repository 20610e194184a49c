"""``train()``: one call that trains a network, quietly and without writing files."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import nn

from titans_seq.exceptions import DataError, DivergedError
from titans_seq.training.batches import Batches
from titans_seq.training.device import pick_device
from titans_seq.training.fsdp import full_tensor, is_sharded
from titans_seq.training.history import History
from titans_seq.training.losses import Loss, ValidationLoss
from titans_seq.training.settings import TrainSettings

_PROGRESS = ContextVar("progress", default=False)
_MAX_STEPS: ContextVar[int | None] = ContextVar("max_steps", default=None)


@contextmanager
def showing_progress() -> Iterator[None]:
    """Show a bar for every training inside, on standard error, if that is a terminal."""
    token = _PROGRESS.set(True)
    try:
        yield
    finally:
        _PROGRESS.reset(token)


@contextmanager
def at_most(steps: int | None) -> Iterator[None]:
    """Limit the optimizer steps of every training inside; None sets no limit."""
    token = _MAX_STEPS.set(steps)
    try:
        yield
    finally:
        _MAX_STEPS.reset(token)


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
        The network, which the losses call. A module in it whose parameters need another
        learning rate, or no weight decay, has a method ``parameter_groups`` that returns
        :class:`ParameterGroup`.
    loss
        ``loss(network, batch)``: a scalar, the mean over the rows of the batch, or
        :class:`Term` of such means.
    batches
        Batches of one epoch (dicts or tuples of tensors), anew at every ``iter()``; inside
        :func:`titans_seq.training.distributed` the same in every process, which then computes
        some of their rows.
    validation
        Batches whose loss selects the epoch whose weights are kept; without them, the last.
    settings
        Length, learning rate, device and more.
    validation_loss
        ``validation_loss(network, batch)``: sum and count of errors. Left out, it is the mean
        of ``loss`` over the examples.
    seed
        Of dropout and whatever else draws from torch's global generators, which are restored.

    Raises
    ------
    DataError
        If there is no training batch.
    DeviceError
        If ``settings.device`` is not available.
    DivergedError
        If a loss or a gradient is not finite; the network then has the last good weights.
    """
    if not len(batches):
        raise DataError("there is no batch to train on: train() needs at least one")
    device = pick_device(settings.device)
    # Imported here, so that prediction alone does not load Lightning.
    from titans_seq.training.task import Task
    from titans_seq.training.trainer import run_task

    if _PROGRESS.get():
        settings = dataclasses.replace(settings, progress=True)
    if _MAX_STEPS.get() is not None:
        settings = dataclasses.replace(settings, max_steps=_MAX_STEPS.get())
    total_steps = len(batches) * settings.max_epochs
    if settings.max_steps is not None:
        total_steps = min(total_steps, settings.max_steps)
    sharded = is_sharded()
    # FSDP cannot be undone on a module: a copy is sharded, and its weights are copied back.
    trained = copy.deepcopy(network) if sharded else network
    task = Task(trained, loss, validation_loss, settings, total_steps)
    complete = not sharded  # full_tensor() is a collective call, so every process must get here
    try:
        run_task(task, batches, validation, device, seed)
        complete = True
    except DivergedError:  # raised in all processes at once
        complete = True
        raise
    finally:
        if complete:
            network.load_state_dict({name: full_tensor(value) for name, value in task.kept.items()})
        network.to(device).eval()
    return History(
        epochs=tuple(task.records),
        best_epoch=task.best_epoch,
        steps=task.steps,
        stopped_by=task.stopped_by,
        device=str(device),
    )
