"""A bar on standard error, on a terminal only."""

from __future__ import annotations

import sys
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from tqdm import tqdm

from titans_seq.training.task import Task


class ProgressBar(Callback):
    """Count steps, and show the last epoch's losses beside them."""

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
        """Go on by one step."""
        self.bar.update()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show what the last epoch came to."""
        assert isinstance(pl_module, Task)
        if not pl_module.records:
            return
        record = pl_module.records[-1]
        losses = {"train": record.train_loss, "validation": record.validation_loss}
        self.bar.set_postfix({key: f"{v:.4g}" for key, v in losses.items() if v is not None})

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the line free."""
        self.bar.close()
