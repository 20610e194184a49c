"""Training on Lightning, set up once for both heads; nothing is loaded before it is used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from titans_seq.training.checkpoints import (
        checkpointing,
        has_checkpoints,
        remove_checkpoints,
    )
    from titans_seq.training.device import pick_device
    from titans_seq.training.fit import at_most, showing_progress, train
    from titans_seq.training.history import EpochRecord, History
    from titans_seq.training.randomness import seeded
    from titans_seq.training.settings import TrainSettings

__all__ = [
    "EpochRecord",
    "History",
    "TrainSettings",
    "at_most",
    "checkpointing",
    "has_checkpoints",
    "pick_device",
    "remove_checkpoints",
    "seeded",
    "showing_progress",
    "train",
]

_HOME = {
    "EpochRecord": "history",
    "History": "history",
    "TrainSettings": "settings",
    "at_most": "fit",
    "checkpointing": "checkpoints",
    "has_checkpoints": "checkpoints",
    "pick_device": "device",
    "remove_checkpoints": "checkpoints",
    "seeded": "randomness",
    "showing_progress": "fit",
    "train": "fit",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
