"""The forecasting network as a model of pytorch-forecasting (its v1 interface).

It works wherever that library's own models do: with ``TimeSeriesDataSet``,
``lightning.pytorch.Trainer``, ``predict`` and the plots.
"""

from titans_seq.exceptions import MissingExtraError

try:
    import pytorch_forecasting  # noqa: F401 (the one place that reports it missing)
except ImportError as error:
    raise MissingExtraError("pytorch_forecasting", extra="forecasting") from error

from titans_seq.forecasting.ptf.model import TitansForecastModel, TitansForecastModel_pkg

__all__ = ["TitansForecastModel", "TitansForecastModel_pkg"]
