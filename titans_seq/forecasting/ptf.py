"""The forecasting network as a model of pytorch-forecasting (its v1 interface).

It takes part wherever that library's own models do: ``TimeSeriesDataSet`` in,
``lightning.pytorch.Trainer`` to train, ``predict`` and the plots to use it.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import torch
from torch import nn

from titans_seq.config import Variant
from titans_seq.exceptions import MissingExtraError
from titans_seq.forecasting.heads import Normalisation
from titans_seq.forecasting.network import ForecastNetwork, NetworkConfig
from titans_seq.forecasting.ptf_windows import BatchReader

try:
    from pytorch_forecasting.data import TimeSeriesDataSet
    from pytorch_forecasting.metrics import (
        MAE,
        RMSE,
        SMAPE,
        CrossEntropy,
        Metric,
        MultiLoss,
        NegativeBinomialDistributionLoss,
        QuantileLoss,
    )
    from pytorch_forecasting.models.base import BaseModelWithCovariates
    from pytorch_forecasting.models.base._base_object import _BasePtForecaster
    from pytorch_forecasting.utils import OutputMixIn
except ImportError as error:
    raise MissingExtraError("pytorch_forecasting", extra="forecasting") from error


class TitansOutput(OutputMixIn, namedtuple("TitansOutput", ["prediction"])):
    """Output of the model; at module level, so that a model that has run can be pickled."""


class TitansForecastModel(BaseModelWithCovariates):
    """Titans for pytorch-forecasting: direct forecasts of the whole horizon.

    Make it with :meth:`from_dataset`. Only covariates known ahead are read from the decoder.

    Parameters
    ----------
    context_length, horizon
        Longest encoder and decoder; ``from_dataset`` takes them from the data set.
    variant
        How memory and attention are joined: ``mac``, ``mag``, ``mal``, ``lmm`` or
        ``attention``.
    dim, layers
        Width and depth of the backbone.
    normalise
        Centre each look-back on its ``mean`` or its ``last`` value, or ``none``; on top of
        the data set's own normaliser.
    dropout
        Share of features that is dropped in training.
    static_categoricals, static_reals, time_varying_categoricals_encoder, \
time_varying_categoricals_decoder, time_varying_reals_encoder, time_varying_reals_decoder, \
categorical_groups, embedding_sizes, embedding_paddings, embedding_labels, x_reals, \
x_categoricals
        Roles of the columns, as pytorch-forecasting gives them.
    output_size
        Outputs a step, or a list of them for several targets.
    target
        Name of the target, or names.
    loss
        Any point, quantile or distribution loss, or ``MultiLoss``; quantiles by default.
    logging_metrics
        Metrics that are logged.
    **kwargs
        Settings of pytorch-forecasting's ``BaseModel``, such as ``learning_rate``.
    """

    _output_class = TitansOutput

    @classmethod
    def _pkg(cls) -> type[TitansForecastModel_pkg]:
        return TitansForecastModel_pkg

    def __init__(
        self,
        context_length: int = 1,
        horizon: int = 1,
        variant: Variant = "mac",
        dim: int = 32,
        layers: int = 1,
        normalise: Normalisation = "mean",
        dropout: float = 0.1,
        static_categoricals: list[str] | None = None,
        static_reals: list[str] | None = None,
        time_varying_categoricals_encoder: list[str] | None = None,
        time_varying_categoricals_decoder: list[str] | None = None,
        categorical_groups: dict[str, list[str]] | None = None,
        time_varying_reals_encoder: list[str] | None = None,
        time_varying_reals_decoder: list[str] | None = None,
        embedding_sizes: dict[str, tuple[int, int]] | None = None,
        embedding_paddings: list[str] | None = None,
        embedding_labels: dict[str, Any] | None = None,
        x_reals: list[str] | None = None,
        x_categoricals: list[str] | None = None,
        output_size: int | list[int] = 1,
        target: str | list[str] | None = None,
        loss: Metric | None = None,
        logging_metrics: nn.ModuleList | None = None,
        **kwargs: Any,
    ) -> None:
        loss = QuantileLoss() if loss is None else loss
        if logging_metrics is None:
            logging_metrics = nn.ModuleList([SMAPE(), MAE(), RMSE()])
        categorical_groups = categorical_groups or {}
        embedding_sizes = embedding_sizes or {}
        embedding_paddings = embedding_paddings or []
        embedding_labels = embedding_labels or {}
        static_categoricals, static_reals = static_categoricals or [], static_reals or []
        time_varying_categoricals_encoder = time_varying_categoricals_encoder or []
        time_varying_categoricals_decoder = time_varying_categoricals_decoder or []
        time_varying_reals_encoder = time_varying_reals_encoder or []
        time_varying_reals_decoder = time_varying_reals_decoder or []
        x_reals, x_categoricals = x_reals or [], x_categoricals or []
        self.save_hyperparameters()
        super().__init__(loss=loss, logging_metrics=logging_metrics, **kwargs)

        names = [target] if isinstance(target, str) else list(target or [])
        sizes = [output_size] if isinstance(output_size, int) else list(output_size)
        self.readers = [
            BatchReader(self.hparams, target=name, context_length=context_length, horizon=horizon)
            for name in names
        ]
        self.networks = nn.ModuleList(
            ForecastNetwork(
                NetworkConfig(
                    context_length=context_length,
                    horizon=horizon,
                    variant=variant,
                    dim=dim,
                    layers=layers,
                    normalise=normalise,
                    dropout=dropout,
                    **outputs_for(one, size),
                    **reader.sizes(),
                )
            )
            for one, size, reader in zip(self._losses(), sizes, self.readers, strict=True)
        )

    def forward(self, x: dict[str, Any], **kwargs: Any) -> TitansOutput:
        """Return the forecast of a batch, in real units."""
        predictions = []
        for network, reader, loss in zip(self.networks, self.readers, self._losses(), strict=True):
            found = network(reader.windows(x))
            if isinstance(loss, QuantileLoss):
                outputs = found.quantiles
            elif isinstance(loss, CrossEntropy):
                outputs = found.extra
            else:
                outputs = torch.cat([found.point[..., None], found.extra], dim=-1)
            predictions.append(outputs[:, : x["decoder_cont"].shape[1]])
        output: TitansOutput = self.to_network_output(
            prediction=self.transform_output(
                predictions if self.n_targets > 1 else predictions[0],
                target_scale=x["target_scale"],
            )
        )
        return output

    @classmethod
    def from_dataset(cls, dataset: TimeSeriesDataSet, **kwargs: Any) -> TitansForecastModel:
        """Return a model for a data set.

        Parameters
        ----------
        dataset
            Tells lengths, columns, targets and normalisers.
        **kwargs
            Parameters of the model; they win over what the data set tells.
        """
        if kwargs.get("loss") is None:
            kwargs.pop("loss", None)
        kwargs.setdefault("context_length", max(1, dataset.max_encoder_length))
        kwargs.setdefault("horizon", dataset.max_prediction_length)
        kwargs.setdefault("target", dataset.target)
        kwargs.update(cls.deduce_default_output_parameters(dataset, kwargs, QuantileLoss()))
        model: TitansForecastModel = super().from_dataset(dataset, **kwargs)
        return model

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Forecast, as ``BaseModel.predict`` does, writing no logs.

        The base adds to the ``trainer_kwargs`` that it is handed; it gets a copy here.
        """
        given = _TrainerSettings(kwargs.pop("trainer_kwargs", None) or {})
        given.setdefault("logger", False)
        return super().predict(*args, trainer_kwargs=given, **kwargs)

    def _losses(self) -> list[Metric]:
        return list(self.loss.metrics) if isinstance(self.loss, MultiLoss) else [self.loss]


def outputs_for(loss: Metric, size: int) -> dict[str, Any]:
    """Return what the network must give for a loss: quantiles, classes, or parameters."""
    if isinstance(loss, QuantileLoss):
        return {"quantiles": tuple(loss.quantiles)}
    return {"extra_outputs": size if isinstance(loss, CrossEntropy) else size - 1}


class _TrainerSettings(dict[str, Any]):
    """Settings of a trainer, for a base that forgets its own callback when it is given some."""

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Take the base's callbacks, which are the user's and its own, in any case."""
        if key == "callbacks":
            self[key] = default
        return super().setdefault(key, default)


class TitansForecastModel_pkg(_BasePtForecaster):  # noqa: N801 (the library's convention)
    """What pytorch-forecasting's test suite wants to know about the model."""

    _tags = {  # noqa: RUF012 (as in the library)
        "info:name": "TitansForecastModel",
        "info:compute": 3,
        "info:pred_type": ["distr", "point", "quantile"],
        "info:y_type": ["category", "numeric"],
        "authors": ["titans-seq"],
        "capability:exogenous": True,
        "capability:multivariate": True,
        "capability:pred_int": True,
        "capability:flexible_history_length": True,
        "capability:cold_start": True,
        "python_dependencies": [],
    }

    @classmethod
    def get_cls(cls) -> type[TitansForecastModel]:
        """Return the model class."""
        return TitansForecastModel

    @classmethod
    def get_base_test_params(cls) -> list[dict[str, Any]]:
        """Return settings to try the model with."""
        return [
            {},
            {
                "dim": 16,
                "variant": "mag",
                "data_loader_kwargs": {"min_prediction_length": 2, "min_encoder_length": 2},
            },
        ]

    @classmethod
    def _get_test_dataloaders_from(cls, params: dict[str, Any]) -> dict[str, Any]:
        """Return loaders of the suite's data, with a target that suits the loss."""
        from pytorch_forecasting.tests._data_scenarios import data_with_covariates, make_dataloaders

        frame, loss = data_with_covariates(), params.get("loss")
        settings = {
            "target": "target",
            "time_varying_known_reals": ["price_actual"],
            "time_varying_unknown_reals": ["target"],
            "static_categoricals": ["agency"],
            "add_relative_time_idx": True,
            **params.get("data_loader_kwargs", {}),
        }
        if isinstance(loss, CrossEntropy):
            settings["target"] = "agency"
        if isinstance(loss, NegativeBinomialDistributionLoss):
            frame["target"] = frame["volume"].round()
        loaders: dict[str, Any] = make_dataloaders(frame, **settings)
        return loaders
