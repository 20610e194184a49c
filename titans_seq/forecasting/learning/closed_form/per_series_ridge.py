"""A linear map of each series by ridge regression, beside the one that all series share."""

from __future__ import annotations

import torch

from titans_seq.forecasting.learning.closed_form.held_out import FOLDS, FoldedBatches, scored_folds
from titans_seq.forecasting.learning.closed_form.linear import centred_windows, series_codes
from titans_seq.forecasting.learning.closed_form.ridge import RidgeSums
from titans_seq.forecasting.network.network import ForecastNetwork
from titans_seq.forecasting.network.series_maps import group_by_code

_PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Penalties to choose from, in units of the mean square of a row of the look-back."""


@torch.no_grad()
def solve_series_maps(network: ForecastNetwork, folds: FoldedBatches) -> None:
    """Give each series of a network the linear map that cross-validation chooses.

    Each fold is forecast with the map of the others. The penalty with the least error over the
    scored folds is taken; where every penalty does worse than no map, the series has none.

    Parameters
    ----------
    network
        Its series maps are all zero; everything else that is linear is solved already.
    folds
        Windows with their folds.
    """
    maps = network.series_maps
    assert maps is not None
    sums = _residual_sums(network, folds)
    for series in range(1, len(maps.weight)):  # 0 is the unknown series
        own = sums.group((slice(None), series))
        others = own.leave_one_out()
        scored = scored_folds(own.rows[:, None])[:, 0]
        changes = [own.change_in_error(others.solve(penalty)) for penalty in _PENALTIES]
        total = [0.0, *(float(change[scored].sum()) for change in changes)]
        best = min(range(len(total)), key=total.__getitem__)
        if best:
            weight = own.total().solve(_PENALTIES[best - 1]).T
            maps.weight[series] = weight.to(maps.weight)


def _residual_sums(network: ForecastNetwork, folds: FoldedBatches) -> RidgeSums:
    """Sum look-backs and residuals of the shared map over windows, by fold and series."""
    config = network.config
    series = config.static_cardinalities[-1]
    sums = RidgeSums.zeros((FOLDS * series,), config.context_length, config.horizon)
    for batch, fold in folds:
        look_back, target = centred_windows(network, batch)
        residual = (target - look_back @ network.linear.weight.T).double().cpu()
        look_back = look_back.double().cpu()
        usable = (fold >= 0) & batch.target_seen.all(1)
        group = torch.where(usable, fold * series + series_codes(batch), -1)
        for code, windows in group_by_code(group):
            if code >= 0:
                sums.group(code).add(look_back[windows], residual[windows])
    return RidgeSums(*(part.unflatten(0, (FOLDS, series)) for part in sums))
