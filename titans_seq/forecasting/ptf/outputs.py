"""Adapters between the network and pytorch-forecasting's losses, and the output classes.

The output classes are defined at module level, so that a model that has run, and the predictions
it wrote to disk, can be pickled.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from pytorch_forecasting.data import NaNLabelEncoder, TimeSeriesDataSet
from pytorch_forecasting.metrics import (
    CrossEntropy,
    DistributionLoss,
    Metric,
    MultiLoss,
    QuantileLoss,
)
from pytorch_forecasting.metrics.base_metrics import CompositeMetric
from pytorch_forecasting.utils import OutputMixIn
from torch import Tensor

from titans_seq.forecasting.network.network import Forecast
from titans_seq.forecasting.ptf.attribution import Attribution


class TitansOutput(OutputMixIn, namedtuple("TitansOutput", ["prediction"])):
    """The forecast of a batch."""


class TitansInterpretedOutput(
    OutputMixIn,
    namedtuple(
        "TitansInterpretedOutput",
        [
            "prediction",
            "attention",
            "attention_parts",
            "memory",
            "surprise",
            "encoder_lengths",
            "decoder_lengths",
        ],
    ),
):
    """The forecast of a batch, and its attribution.

    ``attention``, ``attention_parts``, ``memory`` and ``surprise`` are those of
    :class:`titans_seq.forecasting.ptf.attribution.Attribution`, lists of them for several targets.
    """


def interpreted_output(
    prediction: Tensor | list[Tensor], attributions: list[Attribution], x: Mapping[str, Any]
) -> TitansInterpretedOutput:
    """Return a forecast with the attribution of each target.

    Parameters
    ----------
    prediction
        In real units, a list for several targets.
    attributions
        Attribution of each target, over the longest horizon.
    x
        The batch; its own horizon may be shorter.
    """
    several = isinstance(prediction, list)
    steps = x["decoder_cont"].shape[1]

    def field(values: list[Tensor]) -> Tensor | list[Tensor]:
        return values if several else values[0]

    return TitansInterpretedOutput(
        prediction=prediction,
        attention=field([target.attention[:, :steps] for target in attributions]),
        attention_parts=field([target.parts[:, :steps] for target in attributions]),
        memory=field([target.memory[:, :steps] for target in attributions]),
        surprise=field([target.surprise for target in attributions]),
        encoder_lengths=x["encoder_lengths"],
        decoder_lengths=x["decoder_lengths"],
    )


def default_loss(dataset: TimeSeriesDataSet) -> Metric:
    """Return the quantile loss for a real target, cross-entropy for a categorical one."""
    several = dataset.multi_target
    target_normalizer = dataset.target_normalizer
    encoders = target_normalizer.normalizers if several else [target_normalizer]
    losses = [
        CrossEntropy() if isinstance(encoder, NaNLabelEncoder) else QuantileLoss()
        for encoder in encoders
    ]
    return MultiLoss(losses) if several else losses[0]


def losses_of(loss: Metric) -> list[Metric]:
    """Return the loss of each target.

    A sum of metrics counts as its first, from which the library also takes predictions and
    quantiles.
    """
    losses = list(loss.metrics) if isinstance(loss, MultiLoss) else [loss]
    return [
        metric._metrics[0] if isinstance(metric, CompositeMetric) else metric for metric in losses
    ]


def head_settings(loss: Metric, size: int) -> dict[str, Any]:
    """Return the network's output settings for a loss: quantiles, classes, or parameters.

    Parameters
    ----------
    loss
        Loss of one target.
    size
        Number of classes of a categorical target.
    """
    if isinstance(loss, QuantileLoss):
        return {"quantiles": tuple(sorted(set(loss.quantiles)))}
    if isinstance(loss, CrossEntropy):
        return {"extra_outputs": size}
    if isinstance(loss, DistributionLoss):
        size = len(loss.distribution_arguments)
    return {"extra_outputs": size - 1}


def loss_input(loss: Metric, forecast: Forecast) -> Float[Tensor, "batch horizon outputs"]:
    """Return a forecast in the layout of a loss, in float32 or wider."""
    if isinstance(loss, QuantileLoss):
        levels = sorted(set(loss.quantiles))
        outputs = forecast.quantiles[..., [levels.index(level) for level in loss.quantiles]]
    elif isinstance(loss, CrossEntropy):
        outputs = forecast.extra
    else:
        outputs = torch.cat([forecast.point[..., None], forecast.extra], dim=-1)
    return outputs.to(torch.promote_types(outputs.dtype, torch.float32))
