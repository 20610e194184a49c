"""One call that trains a network, quietly and without files, for both heads."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, Trainer
from torch import nn

from titans_seq.exceptions import DataError
from titans_seq.training.device import pick_device
from titans_seq.training.history import History
from titans_seq.training.progress import ProgressBar
from titans_seq.training.randomness import seeded
from titans_seq.training.settings import TrainSettings
from titans_seq.training.task import Loss, Task, ValidationLoss


class Batches(Protocol):
    """Batches of one epoch; every ``iter()`` begins a new one, shuffled by its owner."""

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
        ``loss(network, batch)``: a scalar, the mean over the batch.
    batches
        Batches of one epoch (dicts or tuples of tensors), anew at every ``iter()``.
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
    total_steps = len(batches) * settings.max_epochs
    if settings.max_steps is not None:
        total_steps = min(total_steps, settings.max_steps)
    task = Task(network, loss, validation_loss, settings, total_steps)
    try:
        with seeded(seed), _quiet(), _interruptible():
            trainer = _trainer(settings, device, total_steps)
            held_out = None if validation is None else _Epochs(validation)
            trainer.fit(task, _Epochs(batches), held_out)
    finally:
        network.load_state_dict(task.kept)
        network.to(device).eval()
    return History(
        epochs=tuple(task.records),
        best_epoch=task.best_epoch,
        steps=task.steps,
        stopped_by=task.stopped_by,
        device=str(device),
    )


class _Epochs:
    """Batches behind a type of ours: Lightning would take a list for several loaders."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


def _trainer(settings: TrainSettings, device: torch.device, total_steps: int) -> Trainer:
    """Return a trainer on one device that writes no files and prints nothing."""
    callbacks: list[Callback] = [ProgressBar(total_steps)] if settings.progress else []
    return Trainer(
        accelerator=device.type,
        devices=1 if device.index is None else [device.index],
        max_epochs=settings.max_epochs,
        callbacks=callbacks,
        plugins=[LightningEnvironment()],  # a cluster's variables do not concern one device
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        inference_mode=False,  # masks cached in validation must serve training, too
        use_distributed_sampler=False,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what Lightning says about itself; everyone else's words pass."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\.")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Undo what Lightning makes of Ctrl-C: it exits with 1 and ignores the next one."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None
