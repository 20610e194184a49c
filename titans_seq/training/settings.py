"""Settings of a training, a frozen record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from titans_seq.exceptions import ConfigError

Schedule = Literal["cosine", "constant", "halving", "trapezoid"]
SCHEDULES: tuple[str, ...] = get_args(Schedule)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainSettings:
    """Settings of one call of :func:`titans_seq.training.train`."""

    max_epochs: int
    """Maximum number of passes over the training batches."""

    learning_rate: float = 1e-3
    """Peak learning rate of AdamW; :class:`ParameterGroup` can scale it for some parameters."""

    weight_decay: float = 0.01
    """Weight decay of AdamW; not of parameters of fewer than two axes, nor of those that a
    :class:`ParameterGroup` excludes."""

    patience: int | None = None
    """Epochs without a better validation loss before training stops; None: no early stopping."""

    min_improvement: float = 0.0
    """Decrease of the validation loss that counts as better for ``patience``."""

    gradient_clip: float | None = 1.0
    """Maximum l2 norm of the gradient over all parameters; longer ones are scaled down."""

    warmup_fraction: float = 0.05
    """Fraction of the training over which the rate rises from zero, in [0, 1)."""

    schedule: Schedule = "cosine"
    """Decay of the learning rate: ``cosine`` to zero at the end, ``trapezoid`` over the last 40%,
    ``halving`` each epoch, or ``constant``."""

    max_steps: int | None = None
    """Maximum number of optimizer steps; None: no bound besides ``max_epochs``."""

    max_seconds: float | None = None
    """Maximum wall time; the schedule then follows the clock if that is ahead of the steps."""

    device: str = "auto"
    """``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``."""

    average_weights: bool = False
    """Validate and keep a moving average of the weights instead of the last ones."""

    progress: bool = False
    """Show a progress bar on standard error, if that is a terminal."""

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises
        ------
        ConfigError
            If a field is outside its range.
        """
        if self.schedule not in SCHEDULES:
            raise ConfigError(
                f"TrainSettings.schedule must be one of {', '.join(SCHEDULES)}, "
                f"got {self.schedule!r}"
            )
        if not 0 <= self.warmup_fraction < 1:
            raise ConfigError(
                f"TrainSettings.warmup_fraction must be at least 0 and below 1, "
                f"got {self.warmup_fraction}"
            )
        for name in ("weight_decay", "min_improvement"):
            if getattr(self, name) < 0:
                raise ConfigError(
                    f"TrainSettings.{name} must be at least 0, got {getattr(self, name)}"
                )
        for name in ("max_epochs", "patience", "max_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"TrainSettings.{name} must be a positive integer, got {value}")
        for name in ("learning_rate", "gradient_clip", "max_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"TrainSettings.{name} must be above 0, got {value}")
