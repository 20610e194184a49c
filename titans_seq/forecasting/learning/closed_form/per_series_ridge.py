"""What the linear map of all series lacks for one of them, solved for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from titans_seq.forecasting.learning.closed_form.held_out import FOLDS, scored_folds
from titans_seq.forecasting.learning.closed_form.linear import centred, series_codes
from titans_seq.forecasting.learning.windows import WindowBatch
from titans_seq.forecasting.network.network import ForecastNetwork
from titans_seq.forecasting.network.series_maps import grouped

_PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Penalties that are tried, over the mean square of a row; maps are drawn to that of all."""


class MapSums(NamedTuple):
    """Sums over the windows of each fold, or of each fold and series."""

    windows: Float[Tensor, "*rest"]
    """How many there are."""

    inner: Float[Tensor, "*rest context context"]
    """Products of the rows of the look-back with each other."""

    outer: Float[Tensor, "*rest context horizon"]
    """Products of them with what the map of all series lacks."""

    def solution(self, penalty: float) -> Float[Tensor, "*rest context horizon"]:
        """Return the maps of one penalty, to be added to that of all."""
        square = self.inner.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
        ridge = penalty * torch.where(square > 0, square, 1.0)
        ones = torch.eye(self.inner.shape[-1], dtype=torch.double)
        found: Tensor = torch.linalg.solve(self.inner + ridge * ones, self.outer)
        return found


@torch.no_grad()
def solve_maps(
    network: ForecastNetwork, folds: Iterable[tuple[WindowBatch, Int[Tensor, " batch"]]]
) -> None:
    """Give each series of a network the linear map that held-out windows bear out.

    Each fold is forecast with the map that the others give, and the penalty that does best in
    all of them is taken; or none, and the series has only the map of all.

    Parameters
    ----------
    network
        With maps for the series, all zero; the rest that is linear is solved for.
    folds
        Windows, with the fold of each; fold -1 does not count.
    """
    maps = network.series_maps
    assert maps is not None
    sums = _map_sums(network, folds)
    for series in range(1, len(maps.weight)):
        fold = MapSums(*(part[:, series] for part in sums))
        whole = MapSums(*(part.sum(0) for part in fold))
        rest = MapSums(*(one - part for one, part in zip(whole, fold, strict=True)))
        told = scored_folds(fold.windows[:, None])[:, 0]
        change = [0.0, *(float(_change(rest, fold, one)[told].sum()) for one in _PENALTIES)]
        best = min(range(len(change)), key=change.__getitem__)
        if best:
            maps.weight[series] = whole.solution(_PENALTIES[best - 1]).T.to(maps.weight)


def _change(rest: MapSums, fold: MapSums, penalty: float) -> Float[Tensor, " folds"]:
    """Return by how much squared errors of a fold change with the map that the rest gives."""
    found = rest.solution(penalty)
    return (found * (fold.inner @ found - 2 * fold.outer)).sum((-2, -1))


def _map_sums(
    network: ForecastNetwork, folds: Iterable[tuple[WindowBatch, Int[Tensor, " batch"]]]
) -> MapSums:
    """Return the sums over all windows whose horizon was seen whole, of each fold and series."""
    config = network.config
    context, horizon = config.context_length, config.horizon
    cells = FOLDS * config.static_cardinalities[-1]
    count = torch.zeros(cells, dtype=torch.double)
    inner = torch.zeros(cells, context, context, dtype=torch.double)
    outer = torch.zeros(cells, context, horizon, dtype=torch.double)
    for batch, fold in folds:
        look_back, came = centred(network, batch)
        lacking = (came - look_back @ network.linear.weight.T).double().cpu()
        rows = look_back.double().cpu()
        cell = fold * config.static_cardinalities[-1] + series_codes(batch)
        counts = (fold >= 0) & batch.target_seen.all(1)
        for place, own in grouped(torch.where(counts, cell, -1)):
            if place >= 0:
                count[place] += len(own)
                inner[place] += rows[own].T @ rows[own]
                outer[place] += rows[own].T @ lacking[own]
    return MapSums(*(part.unflatten(0, (FOLDS, -1)) for part in (count, inner, outer)))
