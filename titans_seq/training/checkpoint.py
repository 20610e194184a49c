"""The state of a training on disk, so that one that was cut off can go on.

Tensors stand in a safetensors file and all else in JSON; loading runs no code. A training that
went on gives what it would have given in one piece: what each epoch draws depends on its number
alone.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from titans_seq.exceptions import ConfigError
from titans_seq.files import plain_values, write_json, write_whole_folder
from titans_seq.training.history import EpochRecord
from titans_seq.training.weights import RunningMean

if TYPE_CHECKING:
    from titans_seq.training.task import Task

_TABLE, _TENSORS = "state.json", "state.safetensors"


class Checkpoint:
    """Where the state of one training is kept.

    Parameters
    ----------
    folder
        Written after every epoch, whole or not at all.
    identity
        What the training is of: settings and data. A state of another one is refused.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        self.identity = plain_values(identity)

    def exists(self) -> bool:
        """Tell whether a state stands there."""
        return (self.folder / _TABLE).is_file()

    def remove(self) -> None:
        """Take the state away."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def save(self, task: Task, optimizer: torch.optim.Optimizer) -> None:
        """Write the state of a task between two epochs."""
        from safetensors.torch import save_file

        groups = {"network": task.network.state_dict(), "kept": task.kept}
        if task.mean is not None:
            groups["mean"] = task.mean.values
        state = optimizer.state_dict()["state"]
        groups |= {f"optimizer.{index}": values for index, values in state.items()}
        tensors = {
            f"{group}/{name}": value.detach().to("cpu", copy=True).contiguous()
            for group, values in groups.items()
            for name, value in values.items()
        }
        table = {
            "identity": self.identity,
            "records": [record._asdict() for record in task.records],
            "best_epoch": task.best_epoch,
            "steps": task.steps,
            "progress": [task.progress.epoch, task.progress.loss],
            "mean_steps": task.mean.steps if task.mean is not None else 0,
        }
        with write_whole_folder(self.folder, force=True, marker=_TABLE) as folder:
            save_file(tensors, folder / _TENSORS)
            write_json(folder / _TABLE, table)

    def restore(self, task: Task) -> None:
        """Bring a new task to where the state was written, if there is one.

        Raises
        ------
        ConfigError
            If the state is of another training, or damaged.
        """
        if not self.exists():
            return
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            table = json.loads((self.folder / _TABLE).read_text("utf-8"))
            tensors = load_file(self.folder / _TENSORS)
            self._check(table["identity"])
            self._apply(task, table, tensors)
        except (AttributeError, KeyError, TypeError, OSError, json.JSONDecodeError, SafetensorError,
                RuntimeError) as error:  # fmt: skip
            raise ConfigError(f"{self.folder} is damaged: {error}; begin anew") from error

    def _check(self, found: Mapping[str, Any]) -> None:
        """Refuse the state of another training."""
        mine, theirs = _flat(self.identity), _flat(found)
        other = sorted(
            name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name)
        )
        if other:
            raise ConfigError(
                f"{self.folder} was written with other {', '.join(other)}: give the same, or "
                "begin anew"
            )

    def _apply(self, task: Task, table: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Give a task the state that was read."""
        groups: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            group, name = key.split("/", 1)
            groups.setdefault(group, {})[name] = value
        task.network.load_state_dict(groups["network"])
        task.kept = groups["kept"]
        task.records = [EpochRecord(**record) for record in table["records"]]
        task.before = len(task.records)
        task.best_epoch, task.steps = table["best_epoch"], table["steps"]
        task.progress.epoch, task.progress.loss = table["progress"]
        if "mean" in groups:
            task.mean = RunningMean(task.network)
            task.mean.values, task.mean.steps = groups["mean"], table["mean_steps"]
        task.moments = {
            int(group.split(".")[1]): values
            for group, values in groups.items()
            if group.startswith("optimizer.")
        }


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a table of tables as one, names joined by dots."""
    flat: dict[str, Any] = {}
    for name, value in table.items():
        inner = _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {}
        flat |= inner or {f"{prefix}{name}": value}
    return flat
