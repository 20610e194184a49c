"""Record of a training, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


class EpochRecord(NamedTuple):
    """One pass over the training batches."""

    epoch: int
    """Counted from 1."""

    train_loss: float
    """Mean over the examples, each scored just before the step that learnt from it."""

    validation_loss: float | None
    """Mean over the validation examples; None without validation."""

    learning_rate: float
    """Learning rate of the epoch's last step, before the scale of a parameter group."""

    seconds: float
    """Wall time since training began."""


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """Result of :func:`titans_seq.training.train`."""

    epochs: tuple[EpochRecord, ...]
    """One record an epoch; the last epoch may be incomplete."""

    best_epoch: int
    """Epoch whose weights were kept, counted from 1."""

    steps: int
    """Optimizer steps taken."""

    stopped_by: str
    """``max_epochs``, ``max_steps``, ``max_seconds`` or ``patience``."""

    device: str
    """Device on which the network was trained."""

    @property
    def best_loss(self) -> float | None:
        """Validation loss of the weights that were kept; None without validation."""
        return self.epochs[self.best_epoch - 1].validation_loss

    def to_table(self) -> dict[str, Any]:
        """Return everything as plain values that JSON can hold."""
        return {
            "epochs": [record._asdict() for record in self.epochs],
            "best_epoch": self.best_epoch,
            "best_loss": self.best_loss,
            "steps": self.steps,
            "stopped_by": self.stopped_by,
            "device": self.device,
        }
