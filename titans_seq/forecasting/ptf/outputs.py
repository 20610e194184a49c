"""Between the network and the library's losses: what each wants, and how it is handed over.

The classes of the output stand at module level, so that a model that has run, and what it
wrote to disk, can be pickled.
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
from titans_seq.forecasting.ptf.looking import Look


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
    """The forecast of a batch, and what was looked at for it.

    ``attention``, ``attention_parts``, ``memory`` and ``surprise`` are those of
    :class:`titans_seq.forecasting.ptf.looking.Look`, lists of them for several targets.
    """


def interpreted(
    prediction: Tensor | list[Tensor], looks: list[Look], x: Mapping[str, Any]
) -> TitansInterpretedOutput:
    """Return a forecast with what each target's network looked at.

    Parameters
    ----------
    prediction
        In real units, a list for several targets.
    looks
        Of each target, over the longest horizon.
    x
        The batch; its own horizon may be shorter.
    """
    several = isinstance(prediction, list)
    steps = x["decoder_cont"].shape[1]

    def field(values: list[Tensor]) -> Tensor | list[Tensor]:
        return values if several else values[0]

    return TitansInterpretedOutput(
        prediction=prediction,
        attention=field([one.attention[:, :steps] for one in looks]),
        attention_parts=field([one.parts[:, :steps] for one in looks]),
        memory=field([one.memory[:, :steps] for one in looks]),
        surprise=field([one.surprise for one in looks]),
        encoder_lengths=x["encoder_lengths"],
        decoder_lengths=x["decoder_lengths"],
    )


def default_loss(dataset: TimeSeriesDataSet) -> Metric:
    """Return quantiles for a real target, cross-entropy for a categorical one."""
    several = dataset.multi_target
    target_normalizer = dataset.target_normalizer
    encoders = target_normalizer.normalizers if several else [target_normalizer]
    losses = [
        CrossEntropy() if isinstance(one, NaNLabelEncoder) else QuantileLoss() for one in encoders
    ]
    return MultiLoss(losses) if several else losses[0]


def losses_of(loss: Metric) -> list[Metric]:
    """Return the loss of each target.

    A sum of metrics counts as its first, which is also the one that the library asks for
    predictions and quantiles.
    """
    found = list(loss.metrics) if isinstance(loss, MultiLoss) else [loss]
    return [one._metrics[0] if isinstance(one, CompositeMetric) else one for one in found]


def wanted_by(loss: Metric, size: int) -> dict[str, Any]:
    """Return what the network must give for a loss: quantiles, classes, or parameters.

    Parameters
    ----------
    loss
        Of one target.
    size
        Classes of a categorical target.
    """
    if isinstance(loss, QuantileLoss):
        return {"quantiles": tuple(sorted(set(loss.quantiles)))}
    if isinstance(loss, CrossEntropy):
        return {"extra_outputs": size}
    if isinstance(loss, DistributionLoss):
        size = len(loss.distribution_arguments)
    return {"extra_outputs": size - 1}


def handed_to(loss: Metric, forecast: Forecast) -> Float[Tensor, "batch horizon outputs"]:
    """Return a forecast as a loss reads it, in float32 or wider."""
    if isinstance(loss, QuantileLoss):
        rising = sorted(set(loss.quantiles))
        outputs = forecast.quantiles[..., [rising.index(level) for level in loss.quantiles]]
    elif isinstance(loss, CrossEntropy):
        outputs = forecast.extra
    else:
        outputs = torch.cat([forecast.point[..., None], forecast.extra], dim=-1)
    return outputs.to(torch.promote_types(outputs.dtype, torch.float32))
