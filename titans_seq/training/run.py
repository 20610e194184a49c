"""Lightning's trainer, taught to be quiet, to write nothing, and to hear Ctrl-C."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, Trainer

from titans_seq.training.fit import Batches
from titans_seq.training.progress import ProgressBar
from titans_seq.training.randomness import seeded
from titans_seq.training.task import Task


def run(
    task: Task, batches: Batches, validation: Batches | None, device: torch.device, seed: int
) -> None:
    """Run the task's epochs; what it learnt is in ``task`` afterwards, however it ended."""
    if task.before >= task.settings.max_epochs or task.steps >= task.total_steps:
        return
    task.seed = seed
    with seeded(seed), _quiet(), _interruptible():
        held_out = None if validation is None else _Epochs(validation)
        _trainer(task, device).fit(task, _Epochs(batches), held_out)


class _Epochs:
    """Batches behind a type of ours: Lightning would take a list for several loaders."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


def _trainer(task: Task, device: torch.device) -> Trainer:
    """Return a trainer on one device that writes no files and prints nothing."""
    callbacks: list[Callback] = [ProgressBar(task.total_steps)] if task.settings.progress else []
    return Trainer(
        accelerator=device.type,
        devices=1 if device.index is None else [device.index],
        max_epochs=task.settings.max_epochs - task.before,
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
