"""Lightning's trainer: silent, without files of its own, on one device or in several processes."""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from tqdm import tqdm

from titans_seq.exceptions import DeviceError, DivergedError
from titans_seq.training.batches import Batches, Epochs
from titans_seq.training.checkpoints import current_session
from titans_seq.training.fsdp import is_sharded
from titans_seq.training.randomness import seeded
from titans_seq.training.ranks import World, all_gather, broadcast_from_rank0, is_first, world
from titans_seq.training.saver import Saver, restore_records, training_identity
from titans_seq.training.task import Task


def run_task(
    task: Task, batches: Batches, validation: Batches | None, device: torch.device, seed: int
) -> None:
    """Train; the results are in ``task`` afterwards, however the training ended.

    Inside :func:`titans_seq.training.checkpointing` a training resumes from its checkpoint.
    """
    all_gather(None, "training")
    epochs = Epochs(batches)
    saver = _saver(task, epochs, seed)
    state = None if saver is None else broadcast_from_rank0(saver.read)
    if state is not None:
        restore_records(task, state)
        epochs.resume(state.facts["order"], state.facts["batches"])
    if state is None or not state.facts["finished"]:
        # Another seed in each process, so that dropout masks differ between rows of a batch.
        with seeded(seed + world().rank), _quiet(), _interruptible(), _checkpoint_in_error(saver):
            held_out = None if validation is None else Epochs(validation)
            _trainer(task, device, saver).fit(task, epochs, held_out)
    if saver is not None:
        saver.finish(task)


def _saver(task: Task, epochs: Epochs, seed: int) -> Saver | None:
    """Return the callback that writes checkpoints; None outside ``checkpointing``."""
    session = current_session()
    if session is None:
        return None
    identity = training_identity(task, len(epochs.batches), seed, session.about)
    return Saver(session, session.next_file(), identity, epochs)


def _trainer(task: Task, device: torch.device, saver: Saver | None) -> Trainer:
    """Return a trainer that writes no files and prints nothing."""
    callbacks: list[Callback] = [] if saver is None else [saver]
    if task.settings.progress and is_first():
        callbacks.append(ProgressBar(task.total_steps, task.steps))
    one_device: dict[str, Any] = {
        "devices": 1 if device.index is None else [device.index],
        # Not the environment of a cluster, whose variables do not concern a single process.
        "plugins": [LightningEnvironment()],
    }
    return Trainer(
        **(one_device if world().size == 1 else trainer_arguments(world(), device)),
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


def trainer_arguments(process: World, device: torch.device) -> dict[str, Any]:
    """Return the arguments of a trainer that works with other processes.

    Raises
    ------
    DeviceError
        If the processes cannot have a device each.
    """
    if device.type == "mps":
        raise DeviceError("device 'mps': several processes need cpu or cuda")
    if device.type == "cuda" and device.index != process.local_rank:
        raise DeviceError(
            f"device '{device}': each of several processes has a CUDA device of its own; use cuda"
        )
    shared: dict[str, Any] = {
        "devices": process.local_size,
        "num_nodes": process.size // process.local_size,
        "plugins": [JoinedProcesses(process)],
    }
    if is_sharded():
        return shared | {"strategy": ModelParallelStrategy(process.size, 1)}
    # static_graph: a network may have parameters that it never uses, but it uses the same ones
    # in each step. Buffers are computed alike in every process.
    return shared | {"strategy": DDPStrategy(broadcast_buffers=False, static_graph=True)}


class JoinedProcesses(ClusterEnvironment):
    """Processes that already form a group when Lightning starts."""

    def __init__(self, process: World) -> None:
        self.process = process

    @property
    def creates_processes_externally(self) -> bool:
        """Whether Lightning must not start processes."""
        return True

    @property
    def main_address(self) -> str:
        """Host of rank 0; not used, because the group exists."""
        return os.environ.get("MASTER_ADDR", "localhost")

    @property
    def main_port(self) -> int:
        """Port of rank 0; not used, because the group exists."""
        return int(os.environ.get("MASTER_PORT", 0))

    @staticmethod
    def detect() -> bool:
        """Return False: Lightning must not choose this environment by itself."""
        return False

    def world_size(self) -> int:
        """Return the number of processes."""
        return self.process.size

    def set_world_size(self, size: int) -> None:
        """Do nothing: the size is known."""

    def global_rank(self) -> int:
        """Return the rank of this process."""
        return self.process.rank

    def set_global_rank(self, rank: int) -> None:
        """Do nothing: the rank is known."""

    def local_rank(self) -> int:
        """Return the rank among the processes of this machine."""
        return self.process.local_rank

    def node_rank(self) -> int:
        """Return the index of this machine."""
        return self.process.rank // self.process.local_size


class ProgressBar(Callback):
    """Bar of steps on standard error, if that is a terminal, with the last epoch's losses."""

    def __init__(self, total_steps: int, steps: int = 0) -> None:
        self.bar = tqdm(
            total=total_steps,
            initial=steps,
            desc="training",
            unit="step",
            file=sys.stderr,
            disable=not sys.stderr.isatty(),
            leave=False,
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Advance by one step."""
        self.bar.update()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the losses of the last epoch."""
        assert isinstance(pl_module, Task)
        if not pl_module.records:
            return
        record = pl_module.records[-1]
        losses = {"train": record.train_loss, "validation": record.validation_loss}
        self.bar.set_postfix({key: f"{v:.4g}" for key, v in losses.items() if v is not None})

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Clear the line."""
        self.bar.close()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's own messages and warnings, and no others."""
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
    """Raise KeyboardInterrupt on Ctrl-C; Lightning would exit with 1 and ignore the next one."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt(*error.__context__.args) from None


@contextmanager
def _checkpoint_in_error(saver: Saver | None) -> Iterator[None]:
    """Name the last good checkpoint in the error of a training that diverged."""
    try:
        yield
    except DivergedError as error:
        if saver is None or not saver.path.is_file():
            raise
        raise DivergedError(f"{error}; the last good checkpoint is {saver.path}") from error
    finally:
        if saver is not None:
            saver.session.training = False
