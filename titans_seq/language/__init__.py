"""Models of discrete tokens: bytes of a text, and facts to be recalled; loaded on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from titans_seq.language.byte_model import TitansByteModel
    from titans_seq.language.recall_model import TitansRecall

__all__ = ["TitansByteModel", "TitansRecall"]

_HOME = {"TitansByteModel": "byte_model", "TitansRecall": "recall_model"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
