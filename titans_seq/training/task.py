"""The training loop as a LightningModule: loss, optimizer, best weights, a record an epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from titans_seq.exceptions import DivergedError
from titans_seq.training.batches import BatchShard
from titans_seq.training.fsdp import LossModule, full_tensor, is_sharded, shard_parameters
from titans_seq.training.history import EpochRecord
from titans_seq.training.losses import Loss, RunningLoss, ValidationLoss, shard_loss
from titans_seq.training.optimizer import build_optimizer, rate_factor, set_rate
from titans_seq.training.ranks import all_reduce_max
from titans_seq.training.settings import TrainSettings
from titans_seq.training.weights import RunningMean, snapshot


class Patience:
    """The last epoch whose loss improved by at least a given amount."""

    def __init__(self) -> None:
        self.epoch = 0
        self.loss = math.inf

    def epochs_waited(self, epoch: int, loss: float, min_improvement: float) -> int:
        """Return the number of epochs since the last such improvement."""
        if loss < self.loss - min_improvement:
            self.epoch, self.loss = epoch, loss
        return epoch - self.epoch


class Task(LightningModule):
    """A network with its loss, as ``lightning.pytorch.Trainer`` trains it.

    The best weights are kept in memory, the learning rate follows the schedule, and a
    non-finite loss or gradient raises ``DivergedError``.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Loss,
        validation_loss: ValidationLoss | None,
        settings: TrainSettings,
        total_steps: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.loss_module = LossModule(network)
        self.loss = loss
        self.validation_loss = validation_loss
        self.settings = settings
        self.total_steps = total_steps
        self.records: list[EpochRecord] = []
        self.best_epoch = 0
        self.patience = Patience()
        self.steps = 0
        self.stopped_by = ""
        self.kept = snapshot(network)
        self.mean: RunningMean | None = None
        self.train_loss = RunningLoss()
        self.epochs_before = 0
        self.seconds_before = 0.0
        self.resume: Callable[[], None] | None = None
        self._validation = RunningLoss()
        self._began = time.monotonic()
        self._rate = 0.0

    @property
    def epoch(self) -> int:
        """Completed epochs, including those before a resumption."""
        return self.epochs_before + self.current_epoch

    @property
    def seconds(self) -> float:
        """Wall time of training so far, including that before a resumption."""
        return self.seconds_before + time.monotonic() - self._began

    def configure_model(self) -> None:
        """Shard the parameters among the processes, if the strategy is FSDP."""
        if is_sharded():
            assert self.device_mesh is not None
            shard_parameters(self.loss_module, self.device_mesh["data_parallel"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW over the network's parameter groups."""
        return build_optimizer(self.network, self.settings)

    def on_train_start(self) -> None:
        """Start the clock and, if it is enabled, the mean of the weights."""
        self._began = time.monotonic()
        if self.settings.average_weights:
            self.mean = RunningMean(self.network)

    def on_train_epoch_start(self) -> None:
        """Reset the mean of the training loss, or restore the state of a checkpoint."""
        self.train_loss = RunningLoss()
        if self.resume is not None:
            self.resume()
            self.resume = None

    def on_train_batch_start(self, batch: BatchShard, batch_idx: int) -> None:
        """Set the learning rate of the next step."""
        self._rate = self.settings.learning_rate * rate_factor(
            self.settings, min(self._done(), 1.0), self.epoch
        )
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        set_rate(optimizer.param_groups, self._rate)

    def training_step(self, shard: BatchShard, batch_idx: int) -> Tensor:
        """Return the loss of one batch, or of this process's rows of it.

        Raises
        ------
        DivergedError
            If it is not finite.
        """
        loss = shard_loss(self.loss_module(self.loss, shard.batch), shard)
        if not torch.isfinite(loss.value):
            raise self._diverged("loss")
        self.train_loss.add(loss.value * loss.rows, loss.rows)
        return loss.backward

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Clip the gradient.

        Raises
        ------
        DivergedError
            If its norm is not finite.
        """
        max_norm = self.settings.gradient_clip or math.inf
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), max_norm)
        if not torch.isfinite(full_tensor(norm)):
            raise self._diverged("gradient")

    def on_train_batch_end(self, outputs: Any, batch: BatchShard, batch_idx: int) -> None:
        """Update the mean of the weights; stop after the last step."""
        self.steps += 1
        if self.mean is not None:
            self.mean.update()
        if self._done() < 1:
            return
        if self.steps < self.total_steps:
            self._stop("max_seconds")
        elif self.total_steps == self.settings.max_steps:
            self._stop("max_steps")
        else:
            self._stop("max_epochs")

    def validation_step(self, shard: BatchShard, batch_idx: int) -> None:
        """Score one validation batch, or this process's rows of it."""
        if self.validation_loss is None:
            loss = shard_loss(self.loss_module(self.loss, shard.batch), shard)
            self._validation.add(loss.value * loss.rows, loss.rows)
            return
        total, count = self.loss_module(self.validation_loss, shard.batch)
        if shard.rows:
            self._validation.add(total, count)

    def on_validation_start(self) -> None:
        """Swap in the mean of the weights, if there is one."""
        self._validation = RunningLoss()
        if self.mean is not None:
            self.mean.swap()

    def on_validation_end(self) -> None:
        """Record the epoch, and swap the trained weights back in."""
        if self.validation_loss is not None:
            self._validation.all_reduce()
        if not math.isfinite(self._validation.value):
            raise self._diverged("validation loss")
        self._close_epoch(self._validation.value)
        if self.mean is not None:
            self.mean.swap()

    def on_train_epoch_end(self) -> None:
        """Record the epoch if there was no validation."""
        if len(self.records) > self.epoch:
            return
        if self.mean is not None:
            self.mean.swap()
        self._close_epoch(None)
        if self.mean is not None:
            self.mean.swap()

    def _close_epoch(self, validation_loss: float | None) -> None:
        """Record the epoch; keep a copy of the weights if they are the best so far."""
        epoch = self.epoch + 1
        best = self.records[self.best_epoch - 1].validation_loss if self.best_epoch else None
        if best is None or validation_loss is None or validation_loss < best:
            self.best_epoch = epoch
            self.kept = snapshot(self.network)
        self.records.append(
            EpochRecord(epoch, self.train_loss.value, validation_loss, self._rate, self.seconds)
        )
        if validation_loss is not None:
            waited = self.patience.epochs_waited(
                epoch, validation_loss, self.settings.min_improvement
            )
            if self.settings.patience is not None and waited >= self.settings.patience:
                self._stop("patience")

    def _done(self) -> float:
        """Return the completed fraction of the training, by steps or by the clock."""
        done = self.steps / self.total_steps
        if self.settings.max_seconds is not None:
            (seconds,) = all_reduce_max(self.seconds)  # processes must stop at the same step
            done = max(done, seconds / self.settings.max_seconds)
        return done

    def _stop(self, reason: str) -> None:
        self.stopped_by = self.stopped_by or reason
        self.trainer.should_stop = True

    def _diverged(self, what: str) -> DivergedError:
        return DivergedError(
            f"training diverged: the {what} is not finite in epoch {self.epoch + 1}, "
            f"step {self.steps + 1}; try a learning rate below {self.settings.learning_rate:g}"
        )
