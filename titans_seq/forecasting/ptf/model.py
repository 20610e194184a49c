"""TitansForecastModel: a Lightning module with pytorch-forecasting's interface, and its package."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial
from typing import Any

import torch
from pytorch_forecasting.data import TimeSeriesDataSet
from pytorch_forecasting.metrics import (
    MAE,
    RMSE,
    SMAPE,
    CrossEntropy,
    Metric,
    NegativeBinomialDistributionLoss,
    PoissonLoss,
    QuantileLoss,
    TweedieLoss,
)
from pytorch_forecasting.models.base._base_object import _BasePtForecaster
from torch import nn

from titans_seq.config import Variant
from titans_seq.exceptions import ConfigError
from titans_seq.forecasting.network.config import NetworkConfig
from titans_seq.forecasting.network.covariates import CategoryEmbeddings
from titans_seq.forecasting.network.heads import Normalisation
from titans_seq.forecasting.network.network import ForecastNetwork
from titans_seq.forecasting.ptf.attribution import attribute
from titans_seq.forecasting.ptf.interpretation import InterpretedModel
from titans_seq.forecasting.ptf.outputs import (
    TitansInterpretedOutput,
    TitansOutput,
    default_loss,
    head_settings,
    interpreted_output,
    loss_input,
    losses_of,
)
from titans_seq.forecasting.ptf.windows import BatchReader, CodeColumn


class TitansForecastModel(InterpretedModel):
    """Titans for pytorch-forecasting: direct forecasts of the whole horizon.

    Create it with :meth:`from_dataset`. Only covariates known ahead are read from the decoder.

    Parameters
    ----------
    context_length, horizon
        Longest encoder and decoder; ``from_dataset`` takes them from the data set.
    variant
        How memory and attention are combined: ``mac``, ``mag``, ``mal``, ``lmm`` or
        ``attention``.
    dim, layers, heads
        Width, depth and heads of the backbone; the heads share the width.
    patch_length
        Rows of one token.
    normalise
        Centre each look-back on its ``mean`` or its ``last`` value, or ``none``; in addition
        to the data set's own normaliser.
    dropout
        Share of features dropped in training.
    static_categoricals, static_reals, time_varying_categoricals_encoder, \
time_varying_categoricals_decoder, time_varying_reals_encoder, time_varying_reals_decoder, \
categorical_groups, embedding_sizes, embedding_paddings, embedding_labels, x_reals, \
x_categoricals
        Roles of the columns, as pytorch-forecasting passes them. Of ``embedding_sizes`` only
        the numbers of categories are used; the width is the network's.
    output_size
        Outputs a step; a list for several targets.
    target
        Name of the target, or a list of names.
    loss
        Any point, quantile or distribution loss, cross-entropy for a categorical target, a
        sum of metrics, or ``MultiLoss``. ``from_dataset`` takes quantiles by default, and
        cross-entropy for a categorical target.
    logging_metrics
        Metrics that are logged.
    **kwargs
        Settings of pytorch-forecasting's ``BaseModel``, such as ``learning_rate``.

    Raises
    ------
    ConfigError
        If the numbers of targets, losses and output sizes differ.
    """

    _output_class = TitansOutput

    @classmethod
    def _pkg(cls) -> type[_BasePtForecaster]:
        return TitansForecastModel_pkg

    def __init__(
        self,
        context_length: int = 1,
        horizon: int = 1,
        variant: Variant = "mac",
        dim: int = 32,
        layers: int = 1,
        heads: int = 4,
        patch_length: int = 12,
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
        categorical_groups, embedding_sizes = categorical_groups or {}, embedding_sizes or {}
        embedding_paddings, embedding_labels = embedding_paddings or [], embedding_labels or {}
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
        losses = losses_of(self.loss)
        if not len(names) == len(sizes) == len(losses):
            raise ConfigError(
                f"{len(names)} targets, {len(sizes)} output sizes and {len(losses)} losses: "
                "the numbers must be equal, as TitansForecastModel.from_dataset(dataset) makes them"
            )
        self.readers = [
            BatchReader(self.hparams, target=name, context_length=context_length, horizon=horizon)
            for name in names
        ]
        self.networks = nn.ModuleList(
            ForecastNetwork(
                NetworkConfig(
                    context_length=context_length,
                    horizon=horizon,
                    patch_length=patch_length,
                    variant=variant,
                    dim=dim,
                    layers=layers,
                    heads=heads,
                    # Without a history a target has no scale of its own.
                    normalise="none" if reader.target is None else normalise,
                    dropout=dropout,
                    **head_settings(own_loss, size),
                    **reader.sizes(),
                )
            )
            for own_loss, size, reader in zip(losses, sizes, self.readers, strict=True)
        )
        for network, reader, own_loss in self._targets():
            _fix_unknown_at_zero(network, reader, embedding_paddings)
            if isinstance(own_loss, CrossEntropy):  # classes have no expected value
                network.linear.requires_grad_(False)
                network.point.requires_grad_(False)

    def forward(
        self, x: dict[str, Any], interpret: bool = False
    ) -> TitansOutput | TitansInterpretedOutput:
        """Return the forecast of a batch, in real units.

        Parameters
        ----------
        x
            Batch of a loader of ``TimeSeriesDataSet``.
        interpret
            Return also the attribution to attention and memory, for
            :meth:`interpret_output`; takes one more pass for each token of the look-back.
        """
        steps = x["decoder_cont"].shape[1]
        predictions, attributions = [], []
        for network, reader, loss in self._targets():
            windows = reader.windows(x)
            predictions.append(loss_input(loss, network(windows))[:, :steps].contiguous())
            if interpret:
                outputs = partial(loss_input, loss)
                attributions.append(attribute(network, windows, outputs))
        several = self.n_targets > 1
        prediction = self.transform_output(
            predictions if several else predictions[0], target_scale=x["target_scale"]
        )
        if not interpret:
            return TitansOutput(prediction)
        return interpreted_output(prediction, attributions, x)

    @classmethod
    def from_dataset(cls, dataset: TimeSeriesDataSet, **kwargs: Any) -> TitansForecastModel:
        """Return a model for a data set.

        Parameters
        ----------
        dataset
            Source of lengths, columns, targets and normalisers.
        **kwargs
            Parameters of the model; they override those of the data set.
        """
        if kwargs.get("loss") is None:
            kwargs["loss"] = default_loss(dataset)
        kwargs.setdefault("context_length", max(1, dataset.max_encoder_length))
        kwargs.setdefault("horizon", dataset.max_prediction_length)
        kwargs.setdefault("target", dataset.target)
        kwargs.update(cls.deduce_default_output_parameters(dataset, kwargs))
        model: TitansForecastModel = super().from_dataset(dataset, **kwargs)
        return model

    def _targets(self) -> Iterator[tuple[ForecastNetwork, BatchReader, Metric]]:
        """Yield network, reader and loss of each target."""
        for network, reader, loss in zip(
            self.networks, self.readers, losses_of(self.loss), strict=True
        ):
            assert isinstance(network, ForecastNetwork)
            yield network, reader, loss


class TitansForecastModel_pkg(_BasePtForecaster):  # noqa: N801 (the library's convention)
    """Tags, test settings and test data of the model, for pytorch-forecasting's test suite.

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
        return TitansForecastModel

    @classmethod
    def get_base_test_params(cls) -> list[dict[str, Any]]:
        """Return the settings that the test suite runs the model with."""
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
        """Return loaders of the test suite's data, with a target that suits the loss."""
        from pytorch_forecasting.tests._data_scenarios import data_with_covariates, make_dataloaders

        frame, loss = data_with_covariates(), params.get("loss")
        unit_interval = params.get("clip_target", isinstance(loss, PoissonLoss | TweedieLoss))
        settings = {
            "target": "target",
            "time_varying_known_reals": ["price_actual"],
            "time_varying_unknown_reals": ["target"],
            "static_categoricals": ["agency"],
            "add_relative_time_idx": True,
            **params.get("data_loader_kwargs", {}),
        }
        frame["target"] = frame["volume"].clip(1e-3, 1.0) if unit_interval else frame["volume"]
        if isinstance(loss, CrossEntropy):
            settings["target"] = "agency"
        if isinstance(loss, NegativeBinomialDistributionLoss):
            frame["target"] = frame["volume"].round()
        loaders: dict[str, Any] = make_dataloaders(frame, **settings)
        return loaders


@torch.no_grad()
def _fix_unknown_at_zero(
    network: ForecastNetwork, reader: BatchReader, names: Collection[str]
) -> None:
    """Fix the embedding of category 0 at zero: there it stands for missing and new values.

    Parameters
    ----------
    names
        Variables whose encoder gives code 0 to unknown values (``add_nan=True``).
    """
    embeddings: list[tuple[CategoryEmbeddings, list[CodeColumn]]] = [
        (network.static_codes, reader.static_codes),
        (network.past_codes, reader.past_codes),
        (network.future_codes, reader.future_codes),
        (network.effect.codes, reader.future_codes),
    ]
    for codes, columns in embeddings:
        for table, column in zip(codes.tables, columns, strict=True):
            if column.name in names:
                assert isinstance(table, nn.Embedding)
                table.padding_idx = 0
                table.weight[0] = 0.0
