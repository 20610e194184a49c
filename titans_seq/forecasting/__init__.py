"""Forecasting: frames in, frames out; nothing is loaded before it is used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from titans_seq.forecasting.estimator import TitansForecaster
    from titans_seq.forecasting.network.config import NetworkConfig
    from titans_seq.forecasting.network.network import ForecastNetwork
    from titans_seq.forecasting.predicting.results import WindowForecasts
    from titans_seq.forecasting.tables.frames import read_frame

__all__ = [
    "ForecastNetwork",
    "NetworkConfig",
    "TitansForecaster",
    "WindowForecasts",
    "read_frame",
]

_HOME = {
    "ForecastNetwork": "network.network",
    "NetworkConfig": "network.config",
    "TitansForecaster": "estimator",
    "WindowForecasts": "predicting.results",
    "read_frame": "tables.frames",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
