"""Category 0 of pytorch-forecasting: missing or new, and what stands for it.

An encoder with ``add_nan=True`` gives code 0 to what it does not know. If no training row
has it, its vector would stay random; it follows the mean of the known ones instead.
``dropout_categoricals`` ask for a vector of zeros.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pytorch_forecasting.data import TimeSeriesDataSet
from torch import nn

from titans_seq.forecasting.covariates import Codes
from titans_seq.forecasting.network import ForecastNetwork
from titans_seq.forecasting.ptf.windows import BatchReader, CodeColumn


def never_met(dataset: TimeSeriesDataSet) -> list[str]:
    """Return the categorical variables that have a code for the unknown but no row with it."""
    codes, columns = dataset.data["categoricals"], dataset.flat_categoricals
    found = []
    for name in dataset.categoricals:
        if "nan" not in dataset._categorical_encoders[name].classes_:
            continue
        own = [columns.index(one) for one in dataset._variable_groups.get(name, [name])]
        if name not in dataset.dropout_categoricals and bool((codes[:, own] != 0).all()):
            found.append(name)
    return found


def tables(network: ForecastNetwork, reader: BatchReader) -> Iterator[tuple[str, nn.Embedding]]:
    """Yield each table of category vectors, with the variable that it belongs to."""
    parts: list[tuple[Codes, list[CodeColumn]]] = [
        (network.static_codes, reader.static_codes),
        (network.past_codes, reader.past_codes),
        (network.future_codes, reader.future_codes),
        (network.effect.codes, reader.future_codes),
    ]
    for codes, columns in parts:
        for table, column in zip(codes.tables, columns, strict=True):
            assert isinstance(table, nn.Embedding)
            yield column.name, table


@torch.no_grad()
def keep_zero(table: nn.Embedding) -> None:
    """Let code 0 stand for a vector of zeros, for good."""
    table.padding_idx = 0
    table.weight[0] = 0.0


@torch.no_grad()
def settle(table: nn.Embedding) -> None:
    """Let code 0 stand for the mean of the others."""
    if len(table.weight) > 1:
        table.weight[0] = table.weight[1:].mean(dim=0)
