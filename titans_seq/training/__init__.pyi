from .checkpoints import checkpointing, has_checkpoints, remove_checkpoints
from .device import pick_device
from .fit import Term, at_most, mean_of, showing_progress, train
from .history import EpochRecord, History
from .randomness import seeded
from .ranks import alone, from_first, is_first, shared_map, unshared, world
from .settings import TrainSettings
from .together import distributed, first_to_fail

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
