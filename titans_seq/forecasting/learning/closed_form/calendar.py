"""Which cycles of the calendar tell anything, as stretches of time that are held out say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from titans_seq.forecasting.learning.closed_form.held_out import FOLDS, scored_folds, standard_error
from titans_seq.forecasting.learning.closed_form.linear import series_codes
from titans_seq.forecasting.learning.windows import WindowBatch
from titans_seq.forecasting.network.network import ForecastNetwork


@torch.no_grad()
def informative_cycles(
    network: ForecastNetwork,
    folds: Iterable[tuple[WindowBatch, Int[Tensor, " batch"]]],
    columns: list[int],
) -> list[bool]:
    """Return for each of some categories known ahead whether it tells what forecasts lack.

    By the day of the week, say, each series lacks something on the average. Where that is worth
    knowing, errors in one stretch of time are smaller less what is lacking in the others, by
    more than a standard error over the stretches; a few dozen weeks always show some week, and
    a network that learns it is wrong in the next.

    Parameters
    ----------
    network
        Solved for, and the categories without effect yet.
    folds
        Windows, with the fold of each; fold -1 does not count.
    columns
        Of the categories known ahead.
    """
    windows, rows, lacks = _sums(network, folds, columns)
    other_rows, other_lacks = (part.sum(1, keepdim=True) - part for part in (rows, lacks))
    effect = torch.where(other_rows > 0, _beyond_mean(other_rows, other_lacks), 0.0)
    own = _beyond_mean(rows, lacks)
    change = (rows * ((own - effect).square() - own.square())).sum(-1)
    told = scored_folds(windows)
    by_fold = (change * told).sum(2, keepdim=True)
    error = standard_error(by_fold, told.any(1, keepdim=True).double())
    return (by_fold.sum(1) + error < 0).squeeze(1).tolist()


class SlotSums(NamedTuple):
    """Sums over the windows of each fold and series."""

    windows: Float[Tensor, "folds series"]
    """How many there are."""

    rows: Float[Tensor, "columns folds series slots"]
    """How many rows ahead have each category."""

    lacks: Float[Tensor, "columns folds series slots"]
    """What the forecasts of those rows lack."""


def _sums(
    network: ForecastNetwork,
    folds: Iterable[tuple[WindowBatch, Int[Tensor, " batch"]]],
    columns: list[int],
) -> SlotSums:
    config, device = network.config, network.linear.weight.device
    series = config.static_cardinalities[-1] if config.static_cardinalities else 1
    slots = max(config.future_cardinalities[column] for column in columns)
    shape = (len(columns), FOLDS, series, slots)
    rows, lacks = (torch.zeros(shape, dtype=torch.double) for _ in range(2))
    windows = torch.zeros(FOLDS, series, dtype=torch.double)
    for batch, fold in folds:
        counts = batch.target_seen & (fold >= 0)[:, None]
        came = network.baseline(batch.windows.to(device)).expected().cpu()
        missed = torch.where(counts, batch.target - came, 0.0).double()
        own = fold.clamp(min=0) * series + series_codes(batch)
        windows.view(-1).index_add_(0, own, (fold >= 0).double())
        for place, column in enumerate(columns):
            codes = batch.windows.future_codes[:, config.context_length :, column]
            cell = (own[:, None] * slots + codes).flatten()
            rows[place].view(-1).index_add_(0, cell, counts.double().flatten())
            lacks[place].view(-1).index_add_(0, cell, missed.flatten())
    return SlotSums(windows, rows, lacks)


def _beyond_mean(
    rows: Float[Tensor, "*rest slots"], lacks: Float[Tensor, "*rest slots"]
) -> Float[Tensor, "*rest slots"]:
    """Return what a row of each slot lacks on the average, beyond what all rows do."""
    mean = lacks.sum(-1, keepdim=True) / rows.sum(-1, keepdim=True).clamp(min=1)
    return lacks / rows.clamp(min=1) - mean
