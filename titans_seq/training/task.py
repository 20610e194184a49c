"""The Lightning side of a training: one loss, one optimizer, one record an epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from titans_seq.exceptions import DivergedError
from titans_seq.training.dealing import Share, dealt_loss, stacked
from titans_seq.training.fit import Loss, ValidationLoss
from titans_seq.training.history import EpochRecord
from titans_seq.training.optimizer import build_optimizer, rate_factor, set_rate
from titans_seq.training.ranks import all_reduce_max, all_reduce_sum, world
from titans_seq.training.settings import TrainSettings
from titans_seq.training.shards import LossModule, finite, is_sharded, mark, shard
from titans_seq.training.weights import RunningMean, snapshot


class Mean:
    """A mean that is fed sums; it stays on the device until it is read."""

    def __init__(self) -> None:
        self.total: Any = 0.0
        self.count: Any = 0.0

    def add(self, total: Any, count: Any) -> None:
        """Take in a sum of ``count`` values."""
        self.total = self.total + total
        self.count = self.count + count

    def join(self) -> None:
        """Take in what the other processes were fed."""
        if world().size > 1:
            self.total, self.count = all_reduce_sum(stacked(self.total, self.count)).unbind()

    @property
    def value(self) -> float:
        """The mean so far; NaN of nothing."""
        return float(self.total) / float(self.count) if float(self.count) else math.nan


class Progress:
    """The last epoch whose loss was markedly lower than what was reached before it."""

    def __init__(self) -> None:
        self.epoch = 0
        self.loss = math.inf

    def waited(self, epoch: int, loss: float, least: float) -> int:
        """Return how many epochs lie between the last marked progress and this one."""
        if loss < self.loss - least:
            self.epoch, self.loss = epoch, loss
        return epoch - self.epoch


class Task(LightningModule):
    """A network with its loss, as ``lightning.pytorch.Trainer`` wants it.

    It keeps the best weights itself (in memory: a training writes no files), lets the rate
    follow the schedule, and turns a non-finite loss or gradient into ``DivergedError``.
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
        self.progress = Progress()
        self.steps = 0
        self.stopped_by = ""
        self.kept = snapshot(network)
        self.mean: RunningMean | None = None
        self.train_mean = Mean()
        self.epochs_before = 0
        self.seconds_before = 0.0
        self.resume: Callable[[], None] | None = None
        self._validation = Mean()
        self._began = time.monotonic()
        self._rate = 0.0

    @property
    def epoch(self) -> int:
        """Epochs that lie behind, those of an earlier run too."""
        return self.epochs_before + self.current_epoch

    @property
    def seconds(self) -> float:
        """Wall time of training so far, that of an earlier run too."""
        return self.seconds_before + time.monotonic() - self._began

    def configure_model(self) -> None:
        """Share the parameters out among the processes, if that is asked for."""
        if is_sharded():
            assert self.device_mesh is not None
            shard(self.loss_module, self.device_mesh["data_parallel"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW over the network's parameter groups."""
        mark(self.network, self.loss_module.marks)
        return build_optimizer(self.network, self.settings)

    def on_train_start(self) -> None:
        """Start the clock and, if asked for, the mean of the weights."""
        self._began = time.monotonic()
        if self.settings.average_weights:
            self.mean = RunningMean(self.network)

    def on_train_epoch_start(self) -> None:
        """Forget the last epoch's mean; where a checkpoint says how it stood, take that."""
        self.train_mean = Mean()
        if self.resume is not None:
            self.resume()
            self.resume = None

    def on_train_batch_start(self, batch: Share, batch_idx: int) -> None:
        """Set the rate of the step to come."""
        self._rate = self.settings.learning_rate * rate_factor(
            self.settings, min(self._done(), 1.0), self.epoch
        )
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        set_rate(optimizer.param_groups, self._rate)

    def training_step(self, share: Share, batch_idx: int) -> Tensor:
        """Return the loss of one batch; of several processes, each the share of its rows.

        Raises
        ------
        DivergedError
            If it is not finite.
        """
        loss, whole, rows = dealt_loss(self.loss_module(self.loss, share.batch), share)
        if not torch.isfinite(whole):
            raise self._diverged("loss")
        self.train_mean.add(whole * rows, rows)
        return loss

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Bound the gradient.

        Raises
        ------
        DivergedError
            If its length is not finite.
        """
        bound = self.settings.gradient_clip or math.inf
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), bound)
        if not finite(norm):
            raise self._diverged("gradient")

    def on_train_batch_end(self, outputs: Any, batch: Share, batch_idx: int) -> None:
        """Take the step into the mean of the weights; stop after the last one."""
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

    def validation_step(self, share: Share, batch_idx: int) -> None:
        """Score one validation batch, or this process's rows of it."""
        if self.validation_loss is None:
            _, whole, rows = dealt_loss(self.loss_module(self.loss, share.batch), share)
            self._validation.add(whole * rows, rows)
            return
        found = self.loss_module(self.validation_loss, share.batch)
        if share.rows:
            self._validation.add(*found)

    def on_validation_start(self) -> None:
        """Score the mean of the weights, if there is one."""
        self._validation = Mean()
        if self.mean is not None:
            self.mean.swap()

    def on_validation_end(self) -> None:
        """Close the epoch with its score, and go on with the weights that are trained."""
        if self.validation_loss is not None:
            self._validation.join()
        if not math.isfinite(self._validation.value):
            raise self._diverged("validation loss")
        self._close_epoch(self._validation.value)
        if self.mean is not None:
            self.mean.swap()

    def on_train_epoch_end(self) -> None:
        """Close the epoch if no validation has done so."""
        if len(self.records) > self.epoch:
            return
        if self.mean is not None:
            self.mean.swap()
        self._close_epoch(None)
        if self.mean is not None:
            self.mean.swap()

    def _close_epoch(self, validation_loss: float | None) -> None:
        """Record the epoch that ends; keep the weights as they stand if none were better."""
        epoch = self.epoch + 1
        best = self.records[self.best_epoch - 1].validation_loss if self.best_epoch else None
        if best is None or validation_loss is None or validation_loss < best:
            self.best_epoch = epoch
            self.kept = snapshot(self.network)
        self.records.append(
            EpochRecord(epoch, self.train_mean.value, validation_loss, self._rate, self.seconds)
        )
        if validation_loss is not None:
            waited = self.progress.waited(epoch, validation_loss, self.settings.min_improvement)
            if self.settings.patience is not None and waited >= self.settings.patience:
                self._stop("patience")

    def _done(self) -> float:
        """Return the share of training that lies behind, by steps or by the clock."""
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
