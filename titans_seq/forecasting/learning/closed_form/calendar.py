"""Which cycles of the calendar improve forecasts of held-out stretches of time."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from titans_seq.forecasting.learning.closed_form.held_out import (
    FOLDS,
    FoldedBatches,
    scored_folds,
    standard_error,
)
from titans_seq.forecasting.learning.closed_form.linear import series_codes
from titans_seq.forecasting.network.network import ForecastNetwork


class SlotSums(NamedTuple):
    """Sums over the windows of each fold and series."""

    windows: Float[Tensor, "folds series"]
    """How many there are."""

    steps: Float[Tensor, "columns folds series slots"]
    """Known targets of each category."""

    residuals: Float[Tensor, "columns folds series slots"]
    """Their residuals without the category's effect."""


@torch.no_grad()
def informative_cycles(
    network: ForecastNetwork, folds: FoldedBatches, columns: list[int]
) -> list[bool]:
    """Return for each of some future categories whether its effect generalises.

    By the day of the week, say, each series has a mean residual. It is informative if the mean
    residuals of the other stretches of time reduce the squared error of one stretch by more than
    a standard error over the stretches. A few dozen weeks always show some week by chance, and a
    network that learns it is wrong in the next.

    Parameters
    ----------
    network
        Solved, and the categories without effect yet.
    folds
        Windows with their folds.
    columns
        Numbers of the future categories.
    """
    windows, steps, residuals = _slot_sums(network, folds, columns)
    other_steps, other_residuals = (part.sum(1, keepdim=True) - part for part in (steps, residuals))
    effect = torch.where(other_steps > 0, _beyond_mean(other_steps, other_residuals), 0.0)
    own = _beyond_mean(steps, residuals)
    # sum of (r - effect)^2 less sum of r^2 within a slot, where r has the mean ``own``
    change = (steps * ((own - effect).square() - own.square())).sum(-1)
    scored = scored_folds(windows)
    by_fold = (change * scored).sum(2, keepdim=True)
    error = standard_error(by_fold, scored.any(1, keepdim=True).double())
    return (by_fold.sum(1) + error < 0).squeeze(1).tolist()


def _slot_sums(network: ForecastNetwork, folds: FoldedBatches, columns: list[int]) -> SlotSums:
    """Sum steps and residuals by category, fold and series."""
    config, device = network.config, network.linear.weight.device
    series = config.static_cardinalities[-1] if config.static_cardinalities else 1
    slots = max(config.future_cardinalities[column] for column in columns)
    shape = (len(columns), FOLDS, series, slots)
    steps, residuals = (torch.zeros(shape, dtype=torch.double) for _ in range(2))
    windows = torch.zeros(FOLDS, series, dtype=torch.double)
    for batch, fold in folds:
        known = batch.target_seen & (fold >= 0)[:, None]
        expected = network.baseline(batch.windows.to(device)).expected().cpu()
        residual = torch.where(known, batch.target - expected, 0.0).double()
        group = fold.clamp(min=0) * series + series_codes(batch)
        windows.view(-1).index_add_(0, group, (fold >= 0).double())
        for number, column in enumerate(columns):
            codes = batch.windows.future_codes[:, config.context_length :, column]
            cell = (group[:, None] * slots + codes).flatten()
            steps[number].view(-1).index_add_(0, cell, known.double().flatten())
            residuals[number].view(-1).index_add_(0, cell, residual.flatten())
    return SlotSums(windows, steps, residuals)


def _beyond_mean(
    steps: Float[Tensor, "*rest slots"], residuals: Float[Tensor, "*rest slots"]
) -> Float[Tensor, "*rest slots"]:
    """Return the mean residual of each slot less that of all slots together."""
    mean = residuals.sum(-1, keepdim=True) / steps.sum(-1, keepdim=True).clamp(min=1)
    return residuals / steps.clamp(min=1) - mean
