"""How a network is trained: one frozen record for both heads."""

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
    """Passes over the training batches, at most."""

    learning_rate: float = 1e-3
    """Peak step of AdamW; a parameter's attribute ``lr_scale`` multiplies it."""

    weight_decay: float = 0.01
    """Decay of AdamW; not on parameters of fewer than two axes, nor on those that carry
    ``no_weight_decay = True``."""

    patience: int | None = None
    """Epochs without a better validation loss before training stops; None: never."""

    min_improvement: float = 0.0
    """How much lower a validation loss must be to count as better for ``patience``."""

    gradient_clip: float | None = 1.0
    """Longest gradient (l2 norm over all parameters); longer ones are scaled down."""

    warmup_fraction: float = 0.05
    """Share of all steps over which the rate rises from zero, in [0, 1)."""

    schedule: Schedule = "cosine"
    """How the rate falls: ``cosine`` to zero at the end, ``trapezoid`` over the last four tenths,
    ``halving`` each epoch, ``constant``."""

    max_steps: int | None = None
    """Optimizer steps, at most; None: no bound besides ``max_epochs``."""

    max_seconds: float | None = None
    """Wall time of training, at most; the schedule then ends in time, too."""

    device: str = "auto"
    """``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``."""

    average_weights: bool = False
    """Validate and keep a running mean of the weights instead of the last ones."""

    progress: bool = False
    """Show a bar on standard error, if that is a terminal."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run.

        Raises
        ------
        ConfigError
            If a field is outside its range; the message says what would be right.
        """
        if self.schedule not in SCHEDULES:
            raise ConfigError(
                f"TrainSettings.schedule={self.schedule!r}: choose one of {', '.join(SCHEDULES)}"
            )
        if not 0 <= self.warmup_fraction < 1:
            raise ConfigError(
                f"TrainSettings.warmup_fraction={self.warmup_fraction}: at least 0 and below 1"
            )
        for name in ("weight_decay", "min_improvement"):
            if getattr(self, name) < 0:
                raise ConfigError(f"TrainSettings.{name}={getattr(self, name)}: at least 0")
        for name in ("max_epochs", "patience", "max_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"TrainSettings.{name}={value}: at least 1")
        for name in ("learning_rate", "gradient_clip", "max_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"TrainSettings.{name}={value}: above 0")
