"""The forecasting network as a model of pytorch-forecasting (its v1 interface).

It takes part wherever that library's own models do: ``TimeSeriesDataSet`` in,
``lightning.pytorch.Trainer`` to train, ``predict`` and the plots to use it.
"""

from titans_seq.exceptions import MissingExtraError

try:
    import pytorch_forecasting  # noqa: F401 (what is missing is said here, once)
except ImportError as error:
    raise MissingExtraError("pytorch_forecasting", extra="forecasting") from error

from titans_seq.forecasting.ptf.model import TitansForecastModel
from titans_seq.forecasting.ptf.package import TitansForecastModel_pkg

__all__ = ["TitansForecastModel", "TitansForecastModel_pkg"]
