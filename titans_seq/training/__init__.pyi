from .batches import RandomBatches
from .checkpoints import checkpointing, has_checkpoints, remove_checkpoints
from .device import pick_device
from .fit import at_most, showing_progress, train
from .history import EpochRecord, History
from .losses import Term, mean_of
from .optimizer import ParameterGroup
from .process_group import distributed, first_to_fail
from .randomness import seeded
from .ranks import broadcast_from_rank0, is_first, shared_map, single_process, unshared, world
from .settings import TrainSettings

__all__ = [
    "EpochRecord",
    "History",
    "ParameterGroup",
    "RandomBatches",
    "Term",
    "TrainSettings",
    "at_most",
    "broadcast_from_rank0",
    "checkpointing",
    "distributed",
    "first_to_fail",
    "has_checkpoints",
    "is_first",
    "mean_of",
    "pick_device",
    "remove_checkpoints",
    "seeded",
    "shared_map",
    "showing_progress",
    "single_process",
    "train",
    "unshared",
    "world",
]
