"""What pytorch-forecasting's own test suite wants to know about the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytorch_forecasting.metrics import (
    CrossEntropy,
    NegativeBinomialDistributionLoss,
    PoissonLoss,
    TweedieLoss,
)
from pytorch_forecasting.models.base._base_object import _BasePtForecaster

if TYPE_CHECKING:
    from titans_seq.forecasting.ptf.model import TitansForecastModel


class TitansForecastModel_pkg(_BasePtForecaster):  # noqa: N801 (the library's convention)
    """Tags, settings to try and data to try them on.

    ``pytorch_forecasting.utils.check_estimator(TitansForecastModel)`` reads them.
    """

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
        from titans_seq.forecasting.ptf.model import TitansForecastModel

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
            {
                "dim": 8,
                "heads": 2,
                "patch_length": 1,
                "variant": "lmm",
                "layers": 2,
                "data_loader_kwargs": {
                    "min_encoder_length": 0,
                    "time_varying_known_categoricals": ["special_days", "month"],
                    "variable_groups": {"special_days": ["easter_day", "new_year", "music_fest"]},
                },
            },
        ]

    @classmethod
    def _get_test_dataloaders_from(cls, params: dict[str, Any]) -> dict[str, Any]:
        """Return loaders of the suite's data, with a target that suits the loss."""
        from pytorch_forecasting.tests._data_scenarios import data_with_covariates, make_dataloaders

        frame, loss = data_with_covariates(), params.get("loss")
        unit = params.get("clip_target", isinstance(loss, PoissonLoss | TweedieLoss))
        settings = {
            "target": "target",
            "time_varying_known_reals": ["price_actual"],
            "time_varying_unknown_reals": ["target"],
            "static_categoricals": ["agency"],
            "add_relative_time_idx": True,
            **params.get("data_loader_kwargs", {}),
        }
        frame["target"] = frame["volume"].clip(1e-3, 1.0) if unit else frame["volume"]
        if isinstance(loss, CrossEntropy):
            settings["target"] = "agency"
        if isinstance(loss, NegativeBinomialDistributionLoss):
            frame["target"] = frame["volume"].round()
        loaders: dict[str, Any] = make_dataloaders(frame, **settings)
        return loaders
