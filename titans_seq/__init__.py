"""Titans for long sequences: a memory that goes on learning while it reads.

Names are loaded on first use (PEP 562), so that ``import titans_seq`` loads no torch.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from titans_seq.backbone import TitansBackbone
    from titans_seq.config import TitansConfig
    from titans_seq.exceptions import TitansSeqError
    from titans_seq.nn.memory import NeuralMemory
    from titans_seq.nn.state import MemoryState

_HOMES = {
    "MemoryState": "titans_seq.nn.state",
    "NeuralMemory": "titans_seq.nn.memory",
    "TitansBackbone": "titans_seq.backbone",
    "TitansConfig": "titans_seq.config",
    "TitansSeqError": "titans_seq.exceptions",
}

__all__ = [
    "MemoryState",
    "NeuralMemory",
    "TitansBackbone",
    "TitansConfig",
    "TitansSeqError",
    "__version__",
]

try:
    __version__ = version("titans-seq")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
