"""The model: a Lightning module that pytorch-forecasting's base class trains and predicts with."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from pytorch_forecasting.data import TimeSeriesDataSet
from pytorch_forecasting.metrics import (
    MAE,
    RMSE,
    SMAPE,
    CrossEntropy,
    Metric,
    QuantileLoss,
)
from pytorch_forecasting.models.base._base_object import _BasePtForecaster
from torch import nn

from titans_seq.config import Variant
from titans_seq.exceptions import ConfigError
from titans_seq.forecasting.network.config import NetworkConfig
from titans_seq.forecasting.network.heads import Normalisation
from titans_seq.forecasting.network.network import ForecastNetwork
from titans_seq.forecasting.ptf.categories import keep_unknown_at_zero
from titans_seq.forecasting.ptf.interpretation import InterpretedModel
from titans_seq.forecasting.ptf.looking import look
from titans_seq.forecasting.ptf.outputs import (
    TitansInterpretedOutput,
    TitansOutput,
    default_loss,
    handed_to,
    interpreted,
    losses_of,
    wanted_by,
)
from titans_seq.forecasting.ptf.windows import BatchReader


class TitansForecastModel(InterpretedModel):
    """Titans for pytorch-forecasting: direct forecasts of the whole horizon.

    Make it with :meth:`from_dataset`. Only covariates known ahead are read from the decoder.

    Parameters
    ----------
    context_length, horizon
        Longest encoder and decoder; ``from_dataset`` takes them from the data set.
    variant
        How memory and attention are joined: ``mac``, ``mag``, ``mal``, ``lmm`` or
        ``attention``.
    dim, layers, heads
        Width, depth and heads of the backbone; the heads share the width.
    patch_length
        Rows that make one token.
    normalise
        Centre each look-back on its ``mean`` or its ``last`` value, or ``none``; on top of
        the data set's own normaliser.
    dropout
        Share of features that is dropped in training.
    static_categoricals, static_reals, time_varying_categoricals_encoder, \
time_varying_categoricals_decoder, time_varying_reals_encoder, time_varying_reals_decoder, \
categorical_groups, embedding_sizes, embedding_paddings, embedding_labels, x_reals, \
x_categoricals
        Roles of the columns, as pytorch-forecasting gives them. Of the embeddings' sizes only
        the number of categories counts; their width is the network's.
    output_size
        Outputs a step, or a list of them for several targets.
    target
        Name of the target, or names.
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
        If targets, losses and output sizes are not as many.
    """

    _output_class = TitansOutput

    @classmethod
    def _pkg(cls) -> type[_BasePtForecaster]:
        from titans_seq.forecasting.ptf.package import TitansForecastModel_pkg

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
        losses = losses_of(self.loss)
        if not len(names) == len(sizes) == len(losses):
            raise ConfigError(
                f"{len(names)} targets, {len(sizes)} output sizes and {len(losses)} losses: "
                "TitansForecastModel.from_dataset(dataset) makes them as many"
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
                    # without a history of its own a target has no scale to be read off
                    normalise="none" if reader.target is None else normalise,
                    dropout=dropout,
                    **wanted_by(one, size),
                    **reader.sizes(),
                )
            )
            for one, size, reader in zip(losses, sizes, self.readers, strict=True)
        )
        self._prepare(embedding_paddings)

    def _prepare(self, embedding_paddings: list[str]) -> None:
        """Fix what training is not to touch."""
        for network, reader, loss in self._parts():
            keep_unknown_at_zero(network, reader, embedding_paddings)
            if isinstance(loss, CrossEntropy):  # classes have no expected value
                network.linear.requires_grad_(False)
                network.point.requires_grad_(False)

    def forward(
        self, x: dict[str, Any], interpret: bool = False
    ) -> TitansOutput | TitansInterpretedOutput:
        """Return the forecast of a batch, in real units.

        Parameters
        ----------
        x
            What a loader of ``TimeSeriesDataSet`` gives.
        interpret
            Return also what attention and memory looked at, for :meth:`interpret_output`;
            takes a pass more for each token of the look-back.
        """
        steps = x["decoder_cont"].shape[1]
        predictions, looks = [], []
        for network, reader, loss in self._parts():
            windows = reader.windows(x)
            predictions.append(handed_to(loss, network(windows))[:, :steps].contiguous())
            if interpret:
                looks.append(look(network, windows, partial(handed_to, loss)))
        several = self.n_targets > 1
        prediction = self.transform_output(
            predictions if several else predictions[0], target_scale=x["target_scale"]
        )
        if not interpret:
            return TitansOutput(prediction)
        return interpreted(prediction, looks, x)

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
            kwargs["loss"] = default_loss(dataset)
        kwargs.setdefault("context_length", max(1, dataset.max_encoder_length))
        kwargs.setdefault("horizon", dataset.max_prediction_length)
        kwargs.setdefault("target", dataset.target)
        kwargs.update(cls.deduce_default_output_parameters(dataset, kwargs))
        model: TitansForecastModel = super().from_dataset(dataset, **kwargs)
        return model

    def _parts(self) -> Iterator[tuple[ForecastNetwork, BatchReader, Metric]]:
        """Yield network, reader and loss of each target."""
        for network, reader, loss in zip(
            self.networks, self.readers, losses_of(self.loss), strict=True
        ):
            assert isinstance(network, ForecastNetwork)
            yield network, reader, loss
