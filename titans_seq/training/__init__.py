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
    from titans_seq.training.fit import Term, at_most, mean_of, showing_progress, train
    from titans_seq.training.history import EpochRecord, History
    from titans_seq.training.randomness import seeded
    from titans_seq.training.ranks import (
        alone,
        from_first,
        is_first,
        shared_map,
        unshared,
        world,
    )
    from titans_seq.training.settings import TrainSettings
    from titans_seq.training.together import distributed, first_to_fail

__all__ = [
    "EpochRecord",
    "History",
    "Term",
    "TrainSettings",
    "alone",
    "at_most",
    "checkpointing",
    "distributed",
    "first_to_fail",
    "from_first",
    "has_checkpoints",
    "is_first",
    "mean_of",
    "pick_device",
    "remove_checkpoints",
    "seeded",
    "shared_map",
    "showing_progress",
    "train",
    "unshared",
    "world",
]

_HOME = {
    "EpochRecord": "history",
    "History": "history",
    "Term": "fit",
    "TrainSettings": "settings",
    "alone": "ranks",
    "at_most": "fit",
    "checkpointing": "checkpoints",
    "distributed": "together",
    "first_to_fail": "together",
    "from_first": "ranks",
    "has_checkpoints": "checkpoints",
    "is_first": "ranks",
    "mean_of": "fit",
    "pick_device": "device",
    "remove_checkpoints": "checkpoints",
    "seeded": "randomness",
    "shared_map": "ranks",
    "showing_progress": "fit",
    "train": "fit",
    "unshared": "ranks",
    "world": "ranks",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
