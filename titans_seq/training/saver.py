"""Checkpoint files: capture the state of a training between two steps, and restore it."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from titans_seq.exceptions import ConfigError
from titans_seq.files import write_whole
from titans_seq.training.batches import Epochs
from titans_seq.training.checkpoints import Session
from titans_seq.training.fsdp import full_tensor, shard_all_like, shard_like
from titans_seq.training.history import EpochRecord
from titans_seq.training.ranks import all_gather, all_reduce_max, is_first, world
from titans_seq.training.task import Task
from titans_seq.training.weights import RunningMean

_LAYOUT = 1
"""Version of the file; others are refused."""

_MAX_OVERHEAD = 0.05
"""Fraction of the training time that writing checkpoints may take."""

_logger = logging.getLogger(__name__)


class TrainingState(NamedTuple):
    """Everything that a training needs to resume."""

    tensors: dict[str, Tensor]
    """Weights, moments, means and states of generators, named ``group/name``."""

    facts: dict[str, Any]
    """Counters and records, as plain values."""


class Saver(Callback):
    """Callback that writes checkpoints to one file, and stops a training after a signal.

    Parameters
    ----------
    session
        How often to write; set by a signal.
    path
        The file.
    identity
        What must be equal for a training to resume from the file.
    epochs
        The training batches, with their order and position.
    """

    def __init__(
        self, session: Session, path: Path, identity: Mapping[str, Any], epochs: Epochs
    ) -> None:
        self.session = session
        self.path = path
        self.identity = dict(identity)
        self.epochs = epochs
        self._last_write = time.monotonic()
        self._write_seconds = 0.0

    def read(self) -> TrainingState | None:
        """Return the state that an earlier run left; None without one, or without ``resume``.

        Raises
        ------
        ConfigError
            If the file is damaged, or was written by another training.
        """
        if not (self.session.resume and self.path.is_file()):
            return None
        state = read_state(self.path)
        written = state.facts["belongs"]
        for name in {**written, **self.identity}:
            if written.get(name) != self.identity.get(name):
                raise ConfigError(
                    f"{self.path} was written by another training: {name} was "
                    f"{written.get(name)!r}, now it is {self.identity.get(name)!r}; resume with "
                    "the same settings and data, or start again"
                )
        if state.facts["threads"] != torch.get_num_threads():
            _logger.warning(
                "%s was written with %d threads, this process has %d: results may differ in "
                "their last digits", self.path, state.facts["threads"], torch.get_num_threads(),
            )  # fmt: skip
        return state

    def write(self, task: Task, batches: int, *, finished: bool = False) -> None:
        """Write the state between two steps, after ``batches`` batches of the epoch."""
        start = time.monotonic()
        state = capture(task, optimizer=not finished)
        if not is_first():
            return
        state.facts.update(
            belongs=self.identity,
            batches=batches,
            order=self.epochs.order,
            finished=finished,
            threads=torch.get_num_threads(),
        )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_state(self.path, state)
        self._last_write = time.monotonic()
        self._write_seconds = self._last_write - start

    def finish(self, task: Task) -> None:
        """Write the result, so that it is not trained again; then stop if a signal came."""
        self.write(task, 0, finished=True)
        self.notify_listener(task)
        self.session.stop_requested = bool(*all_reduce_max(self.session.stop_requested))
        self.session.raise_if_stopped()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the session's signal handlers again, after Lightning has installed its own."""
        self.session.training = True
        self.session.install_handlers()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Write if a checkpoint is due or a signal came; then stop after a signal."""
        assert isinstance(pl_module, Task)
        batches = self.epochs.skipped + batch_idx
        if not batches:
            self.notify_listener(pl_module)
        # A signal to one process stops all; rank 0, which writes, decides when that is due.
        due = is_first() and self._due(batches)
        stop, due = map(bool, all_reduce_max(self.session.stop_requested, due))
        self.session.stop_requested = stop
        if pl_module.steps and (stop or due):
            self.write(pl_module, batches)
        self.session.raise_if_stopped()

    def notify_listener(self, task: Task) -> None:
        """Pass the records of all epochs so far to the session's listener."""
        if self.session.listen is not None and task.records and is_first():
            self.session.listen(tuple(task.records))

    def _due(self, batches: int) -> bool:
        """Return whether a checkpoint is due: within an epoch later than at its end."""
        if not self.session.every:
            return True
        wait = self._write_seconds / _MAX_OVERHEAD
        if batches:
            wait = max(wait, self.session.every)
        return time.monotonic() - self._last_write >= wait


def capture(task: Task, *, optimizer: bool = True) -> TrainingState:
    """Return a copy of a task's state on the CPU; without the optimizer of a finished one."""
    tensors = {f"kept/{name}": value for name, value in task.kept.items()}
    facts: dict[str, Any] = {
        "layout": _LAYOUT,
        "records": [list(record) for record in task.records],
        "best_epoch": task.best_epoch,
        "progress": [task.patience.epoch, task.patience.loss],
        "steps": task.steps,
        "epoch": task.epoch,
        "stopped_by": task.stopped_by,
        "seconds": task.seconds,
        "running_mean_steps": None if task.mean is None else task.mean.steps,
    }
    if not optimizer:
        return TrainingState({name: _copy(value) for name, value in tensors.items()}, facts)
    tensors |= {f"network/{name}": value for name, value in task.network.state_dict().items()}
    moments = _optimizer(task).state_dict()["state"]
    for number, values in moments.items():
        tensors |= {f"optimizer/{number}/{name}": value for name, value in values.items()}
    if task.mean is not None:
        tensors |= {f"mean/{name}": value for name, value in task.mean.values.items()}
    tensors["loss/total"] = torch.as_tensor(task.train_loss.total)
    tensors["loss/count"] = torch.as_tensor(task.train_loss.count)
    for rank, generators in enumerate(all_gather(_generators(), "checkpoint")):
        tensors |= {f"random{rank or ''}/{name}": value for name, value in generators.items()}
    return TrainingState({name: _copy(value) for name, value in tensors.items()}, facts)


def _generators() -> dict[str, Tensor]:
    """Return the states of torch's global generators in this process."""
    generators = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states = torch.cuda.get_rng_state_all()
        generators |= {f"cuda:{device}": value for device, value in enumerate(states)}
    return generators


def restore_records(task: Task, state: TrainingState) -> None:
    """Restore counters, records and best weights; the rest once the task has its optimizer."""
    facts = state.facts
    task.records = [EpochRecord(*record) for record in facts["records"]]
    task.best_epoch = facts["best_epoch"]
    task.patience.epoch, task.patience.loss = facts["progress"]
    task.steps = facts["steps"]
    task.epochs_before = facts["epoch"]
    task.seconds_before = facts["seconds"]
    task.stopped_by = facts["stopped_by"]
    task.kept = _group(state, "kept")
    if not facts["finished"]:
        task.resume = lambda: restore_tensors(task, state)


def restore_tensors(task: Task, state: TrainingState) -> None:
    """Restore weights, optimizer, means and generators of a task before its next step."""
    device = next(task.network.parameters()).device
    patterns = task.network.state_dict()
    task.network.load_state_dict(shard_all_like(_group(state, "network"), patterns))
    optimizer = _optimizer(task)
    moments: dict[int, dict[str, Tensor]] = {}
    # The optimizer numbers its parameters in the order of its groups.
    parameters = [value for group in optimizer.param_groups for value in group["params"]]
    for key, value in _group(state, "optimizer").items():
        number, _, name = key.partition("/")
        value = shard_like(value, parameters[int(number)])
        moments.setdefault(int(number), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    if state.facts["running_mean_steps"] is not None:
        task.mean = RunningMean(task.network)
        task.mean.steps = state.facts["running_mean_steps"]
        means = {k: v.to(device) for k, v in _group(state, "mean").items()}
        task.mean.values = shard_all_like(means, patterns)
    loss = _group(state, "loss")
    task.train_loss.total = loss["total"].to(device)
    task.train_loss.count = loss["count"].item()
    for name, value in _group(state, f"random{world().rank or ''}").items():
        if name == "cpu":
            torch.set_rng_state(value)
        else:
            torch.cuda.set_rng_state(value, name)


def write_state(path: Path, state: TrainingState) -> None:
    """Write a state as one safetensors file, whole or not at all."""
    from safetensors.torch import save

    data = save(state.tensors, metadata={"facts": json.dumps(state.facts)})
    with write_whole(path) as temporary:
        temporary.write_bytes(data)


def read_state(path: Path) -> TrainingState:
    """Read a state.

    Raises
    ------
    ConfigError
        If the file is damaged, or of another layout.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["facts"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        layout = facts["layout"]
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is damaged ({error}); start again without it") from error
    if layout != _LAYOUT:
        raise ConfigError(f"{path} has layout {layout}, this version of titans-seq reads {_LAYOUT}")
    return TrainingState(tensors, facts)


def training_identity(
    task: Task, batches: int, seed: int, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what must be equal for a training to resume: settings, sizes, seed, data."""
    settings = dataclasses.asdict(task.settings)
    settings.pop("progress")
    sizes = [tuple(value.shape) for value in task.network.parameters()]
    processes = {"processes": world().size} if world().size > 1 else {}
    facts = {**processes, **about, **settings, "seed": seed, "batches": batches,
             "total_steps": task.total_steps, "parameters": sizes}  # fmt: skip
    plain: dict[str, Any] = json.loads(json.dumps(facts))
    return plain


def _group(state: TrainingState, group: str) -> dict[str, Tensor]:
    """Return the tensors of one group, by name."""
    prefix = f"{group}/"
    return {k.removeprefix(prefix): v for k, v in state.tensors.items() if k.startswith(prefix)}


def _optimizer(task: Task) -> torch.optim.Optimizer:
    """Return the task's optimizer, without Lightning's wrapper."""
    optimizer = task.optimizers(use_pl_optimizer=False)
    assert isinstance(optimizer, torch.optim.Optimizer)
    return optimizer


def _copy(value: Tensor) -> Tensor:
    """Return a whole, contiguous copy on the CPU."""
    return full_tensor(value.detach()).to("cpu", copy=True).contiguous()
