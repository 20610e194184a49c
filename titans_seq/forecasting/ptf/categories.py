"""Category 0 of pytorch-forecasting: what is missing or new has a vector of zeros."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn

from titans_seq.forecasting.network.covariates import CategoryEmbeddings
from titans_seq.forecasting.network.network import ForecastNetwork
from titans_seq.forecasting.ptf.windows import BatchReader, CodeColumn


@torch.no_grad()
def keep_unknown_at_zero(
    network: ForecastNetwork, reader: BatchReader, names: Collection[str]
) -> None:
    """Let code 0 stand for zeros, in training too.

    Parameters
    ----------
    names
        Variables whose encoder gives code 0 to what it does not know (``add_nan=True``).
    """
    parts: list[tuple[CategoryEmbeddings, list[CodeColumn]]] = [
        (network.static_codes, reader.static_codes),
        (network.past_codes, reader.past_codes),
        (network.future_codes, reader.future_codes),
        (network.effect.codes, reader.future_codes),
    ]
    for codes, columns in parts:
        for table, column in zip(codes.tables, columns, strict=True):
            if column.name in names:
                assert isinstance(table, nn.Embedding)
                table.padding_idx = 0
                table.weight[0] = 0.0
