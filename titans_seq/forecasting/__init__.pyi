from .estimator import TitansForecaster
from .network.config import NetworkConfig
from .network.network import ForecastNetwork
from .predicting.results import WindowForecasts
from .tables.frames import read_frame

__all__ = [
    "ForecastNetwork",
    "NetworkConfig",
    "TitansForecaster",
    "WindowForecasts",
    "read_frame",
]
