"""Writes the state of a training between two steps, and reads it back."""

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
from titans_seq.training.checkpoints import Session
from titans_seq.training.epochs import Epochs
from titans_seq.training.history import EpochRecord
from titans_seq.training.ranks import all_gather, all_reduce_max, is_first, world
from titans_seq.training.shards import all_shared_like, shared_like, whole
from titans_seq.training.task import Task
from titans_seq.training.weights import RunningMean

LAYOUT = 1
"""Of the file; another one is refused."""

SHARE = 0.05
"""Of the time of a training that checkpoints may take."""

logger = logging.getLogger(__name__)


class State(NamedTuple):
    """Everything that a training needs to go on."""

    tensors: dict[str, Tensor]
    """Weights, moments, means and generators, named ``part/name``."""

    facts: dict[str, Any]
    """Counters and records, as plain values."""


class Saver(Callback):
    """Keeps one file up to date; between steps nothing is half done.

    Parameters
    ----------
    session
        How often, and whether a signal came.
    path
        The file.
    belongs
        What tells this training from others.
    epochs
        The training batches, which know where they are.
    """

    def __init__(
        self, session: Session, path: Path, belongs: Mapping[str, Any], epochs: Epochs
    ) -> None:
        self.session = session
        self.path = path
        self.belongs = dict(belongs)
        self.epochs = epochs
        self._wrote = time.monotonic()
        self._cost = 0.0

    def read(self) -> State | None:
        """Return what an earlier run left; None if it left nothing, or nothing is asked for.

        Raises
        ------
        ConfigError
            If the file is damaged, or was written by another training.
        """
        if not (self.session.resume and self.path.is_file()):
            return None
        state = read_state(self.path)
        found = state.facts["belongs"]
        for name in {**found, **self.belongs}:
            if found.get(name) != self.belongs.get(name):
                raise ConfigError(
                    f"{self.path} was written by another training: {name} was "
                    f"{found.get(name)!r}, now it is {self.belongs.get(name)!r}; go on with the "
                    "same settings and data, or begin anew"
                )
        if state.facts["threads"] != torch.get_num_threads():
            logger.warning(
                "%s was written with %d threads, now there are %d: results may differ in their "
                "last digits", self.path, state.facts["threads"], torch.get_num_threads(),
            )  # fmt: skip
        return state

    def write(self, task: Task, batches: int, *, finished: bool = False) -> None:
        """Write the state between two steps, after so many batches of the epoch."""
        began = time.monotonic()
        state = capture(task, optimizer=not finished)
        if not is_first():
            return
        state.facts.update(
            belongs=self.belongs,
            batches=batches,
            order=self.epochs.order,
            finished=finished,
            threads=torch.get_num_threads(),
        )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_state(self.path, state)
        self._wrote = time.monotonic()
        self._cost = self._wrote - began

    def finish(self, task: Task) -> None:
        """Write what came out, so that it need not be trained again; then hear a signal."""
        self.write(task, 0, finished=True)
        self.tell(task)
        self.session.stop_asked = bool(*all_reduce_max(self.session.stop_asked))
        self.session.stop_if_asked()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hear signals ourselves; Lightning has just said it would."""
        self.session.training = True
        self.session.hear()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Write if it is time to, or if a signal asks to stop."""
        assert isinstance(pl_module, Task)
        batches = self.epochs.skipped + batch_idx
        if not batches:
            self.tell(pl_module)
        # All stop if one was asked to; the first, who writes, says when that is due.
        due = is_first() and self._due(batches)
        self.session.stop_asked, due = map(bool, all_reduce_max(self.session.stop_asked, due))
        if pl_module.steps and (self.session.stop_asked or due):
            self.write(pl_module, batches)
        self.session.stop_if_asked()

    def tell(self, task: Task) -> None:
        """Tell whoever listens which epochs have ended."""
        if self.session.listen is not None and task.records and is_first():
            self.session.listen(tuple(task.records))

    def _due(self, batches: int) -> bool:
        """Tell whether a checkpoint is due: soon after an epoch, later within one."""
        if not self.session.every:
            return True
        wait = self._cost / SHARE
        if batches:
            wait = max(wait, self.session.every)
        return time.monotonic() - self._wrote >= wait


def capture(task: Task, *, optimizer: bool = True) -> State:
    """Return a copy of a task's state on the CPU; of a finished one without its optimizer."""
    tensors = {f"kept/{name}": value for name, value in task.kept.items()}
    facts: dict[str, Any] = {
        "layout": LAYOUT,
        "records": [list(record) for record in task.records],
        "best_epoch": task.best_epoch,
        "progress": [task.progress.epoch, task.progress.loss],
        "steps": task.steps,
        "epoch": task.epoch,
        "stopped_by": task.stopped_by,
        "seconds": task.seconds,
        "running_mean_steps": None if task.mean is None else task.mean.steps,
    }
    if not optimizer:
        return State({name: _copy(value) for name, value in tensors.items()}, facts)
    tensors |= {f"network/{name}": value for name, value in task.network.state_dict().items()}
    moments = _optimizer(task).state_dict()["state"]
    for number, parts in moments.items():
        tensors |= {f"optimizer/{number}/{name}": value for name, value in parts.items()}
    if task.mean is not None:
        tensors |= {f"mean/{name}": value for name, value in task.mean.values.items()}
    tensors["loss/total"] = torch.as_tensor(task.train_mean.total)
    tensors["loss/count"] = torch.as_tensor(task.train_mean.count)
    for rank, generators in enumerate(all_gather(_generators(), "a checkpoint")):
        tensors |= {f"random{rank or ''}/{name}": value for name, value in generators.items()}
    return State({name: _copy(value) for name, value in tensors.items()}, facts)


def _generators() -> dict[str, Tensor]:
    """Return the states of torch's generators in this process."""
    found = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states = torch.cuda.get_rng_state_all()
        found |= {f"cuda:{device}": value for device, value in enumerate(states)}
    return found


def adopt(task: Task, state: State) -> None:
    """Give a new task the counters and records of a state; the rest waits for its optimizer."""
    facts = state.facts
    task.records = [EpochRecord(*record) for record in facts["records"]]
    task.best_epoch = facts["best_epoch"]
    task.progress.epoch, task.progress.loss = facts["progress"]
    task.steps = facts["steps"]
    task.epochs_before = facts["epoch"]
    task.seconds_before = facts["seconds"]
    task.stopped_by = facts["stopped_by"]
    task.kept = _part(state, "kept")
    if not facts["finished"]:
        task.resume = lambda: restore(task, state)


def restore(task: Task, state: State) -> None:
    """Give a task that is about to take its next step what it had after its last."""
    device = next(task.network.parameters()).device
    patterns = task.network.state_dict()
    task.network.load_state_dict(all_shared_like(_part(state, "network"), patterns))
    optimizer = _optimizer(task)
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in _part(state, "optimizer").items():
        number, _, which = name.partition("/")
        moments.setdefault(int(number), {})[which] = value
    groups = optimizer.state_dict()["param_groups"]
    owners = [value for group in optimizer.param_groups for value in group["params"]]
    moments = {
        number: {which: shared_like(value, owners[number]) for which, value in parts.items()}
        for number, parts in moments.items()
    }
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    if state.facts["running_mean_steps"] is not None:
        task.mean = RunningMean(task.network)
        task.mean.steps = state.facts["running_mean_steps"]
        means = {k: v.to(device) for k, v in _part(state, "mean").items()}
        task.mean.values = all_shared_like(means, patterns)
    loss = _part(state, "loss")
    task.train_mean.total = loss["total"].to(device)
    task.train_mean.count = loss["count"].item()
    for name, value in _part(state, f"random{world().rank or ''}").items():
        if name == "cpu":
            torch.set_rng_state(value)
        else:
            torch.cuda.set_rng_state(value, name)


def write_state(path: Path, state: State) -> None:
    """Write a state as one safetensors file, whole or not at all."""
    from safetensors.torch import save

    data = save(state.tensors, metadata={"facts": json.dumps(state.facts)})
    with write_whole(path) as temporary:
        temporary.write_bytes(data)


def read_state(path: Path) -> State:
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
        raise ConfigError(f"{path} is damaged ({error}); begin anew") from error
    if layout != LAYOUT:
        raise ConfigError(f"{path} has layout {layout}, this titans-seq reads {LAYOUT}")
    return State(tensors, facts)


def identity(task: Task, batches: int, seed: int, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells a training from others: settings, sizes, seed, versions."""
    settings = dataclasses.asdict(task.settings)
    settings.pop("progress")
    sizes = [tuple(value.shape) for value in task.network.parameters()]
    several = {"processes": world().size} if world().size > 1 else {}
    facts = {**several, **about, **settings, "seed": seed, "batches": batches,
             "total_steps": task.total_steps, "parameters": sizes}  # fmt: skip
    plain: dict[str, Any] = json.loads(json.dumps(facts))
    return plain


def _part(state: State, part: str) -> dict[str, Tensor]:
    """Return the tensors of one part, by their own names."""
    head = f"{part}/"
    return {k.removeprefix(head): v for k, v in state.tensors.items() if k.startswith(head)}


def _optimizer(task: Task) -> torch.optim.Optimizer:
    """Return the optimizer that Lightning holds."""
    optimizer = task.optimizers(use_pl_optimizer=False)
    assert isinstance(optimizer, torch.optim.Optimizer)
    return optimizer


def _copy(value: Tensor) -> Tensor:
    """Return a copy of its own on the CPU."""
    return whole(value.detach()).to("cpu", copy=True).contiguous()
