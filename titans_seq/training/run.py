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

from titans_seq.exceptions import DivergedError
from titans_seq.training.checkpoints import current_session
from titans_seq.training.epochs import Epochs
from titans_seq.training.fit import Batches
from titans_seq.training.progress import ProgressBar
from titans_seq.training.randomness import seeded
from titans_seq.training.ranks import all_gather, broadcast_from_rank0, is_first, world
from titans_seq.training.saver import Saver, adopt, identity
from titans_seq.training.strategies import on_all
from titans_seq.training.task import Task


def run(
    task: Task, batches: Batches, validation: Batches | None, device: torch.device, seed: int
) -> None:
    """Run the task's epochs; what it learnt is in ``task`` afterwards, however it ended.

    Inside :func:`titans_seq.training.checkpointing` it goes on where an earlier run stopped.
    """
    all_gather(None, "a training")
    epochs = Epochs(batches)
    saver = _saver(task, epochs, seed)
    state = None if saver is None else broadcast_from_rank0(saver.read)
    if state is not None:
        adopt(task, state)
        epochs.go_on(state.facts["order"], state.facts["batches"])
    if state is None or not state.facts["finished"]:
        # Every process drops out others of the network's features.
        with seeded(seed + world().rank), _quiet(), _interruptible(), _watched(saver):
            held_out = None if validation is None else Epochs(validation)
            _trainer(task, device, saver).fit(task, epochs, held_out)
    if saver is not None:
        saver.finish(task)


def _saver(task: Task, epochs: Epochs, seed: int) -> Saver | None:
    """Return what writes checkpoints, if they are asked for."""
    session = current_session()
    if session is None:
        return None
    belongs = identity(task, len(epochs.batches), seed, session.about)
    return Saver(session, session.next_file(), belongs, epochs)


def _trainer(task: Task, device: torch.device, saver: Saver | None) -> Trainer:
    """Return a trainer that writes no files and prints nothing."""
    callbacks: list[Callback] = [] if saver is None else [saver]
    if task.settings.progress and is_first():
        callbacks.append(ProgressBar(task.total_steps, task.steps))
    one: dict[str, Any] = {
        "devices": 1 if device.index is None else [device.index],
        "plugins": [LightningEnvironment()],  # a cluster's variables do not concern one device
    }
    return Trainer(
        **(one if world().size == 1 else on_all(world(), device)),
        accelerator=device.type,
        max_epochs=task.settings.max_epochs - task.epochs_before,
        callbacks=callbacks,
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
        raise KeyboardInterrupt(*error.__context__.args) from None


@contextmanager
def _watched(saver: Saver | None) -> Iterator[None]:
    """Let a training that diverged say where its last good checkpoint is."""
    try:
        yield
    except DivergedError as error:
        if saver is None or not saver.path.is_file():
            raise
        raise DivergedError(f"{error}; the last good checkpoint is {saver.path}") from error
    finally:
        if saver is not None:
            saver.session.training = False
