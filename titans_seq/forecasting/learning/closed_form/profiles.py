"""Profiles of a cycle by ridge regression: the hour of the day of each series.

A profile is in units of the series, in standard deviations of the look-back, or a sum of both;
cross-validation chooses which, or none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from titans_seq.forecasting.learning.closed_form.held_out import (
    FOLDS,
    FoldedBatches,
    scored_folds,
    standard_error,
)
from titans_seq.forecasting.learning.closed_form.linear import series_codes
from titans_seq.forecasting.learning.closed_form.ridge import RidgeSums
from titans_seq.forecasting.network.heads import window_scale
from titans_seq.forecasting.network.network import ForecastNetwork

_PENALTY = 0.01
"""Penalty of a profile, in units of the mean sum of squares of its slots."""

_MOST_NUMBERS = 20_000_000
"""Numbers of normal equations that are held at once."""

_KINDS: tuple[list[int], ...] = ([], [1], [0], [0, 1])
"""Units of a series' profile: none, deviations of the look-back, its own, or a sum of both.

In order of preference: what scales with the look-back holds in any season.
"""


class ProfileSums(NamedTuple):
    """Sums over the windows of each fold and series; the two units are 1 and the deviation."""

    weights: Float[Tensor, "folds series places 2 2"]
    """Products of the units, by the place in the cycle at which the horizon begins."""

    outer: Float[Tensor, "folds series 2 slots"]
    """Products of the residuals without a profile with what each slot contributes to them."""


@torch.no_grad()
def solve_profiles(network: ForecastNetwork, folds: FoldedBatches) -> None:
    """Give each series of a network the profile that cross-validation chooses.

    Each fold is forecast with the profile of the others, for every kind in :data:`_KINDS`. The
    first kind that does no worse than the best, up to one standard error over the folds, is
    taken.

    Parameters
    ----------
    network
        Only its profiles are set.
    folds
        Windows with their folds.
    """
    cycle = network.cycle
    assert cycle is not None
    cycle.clear()
    response = _response(network)
    for series, sums in _normal_equations(response, _profile_sums(network, response, folds)):
        scored = scored_folds(sums.rows).double()
        whole, others = sums.total(), sums.leave_one_out()
        changes = [torch.zeros_like(scored)]
        changes += [scored * _change(others, sums, units) for units in _KINDS[1:]]
        chosen = _preferred(torch.stack(changes), scored)
        for kind, units in enumerate(_KINDS[1:], start=1):
            own = chosen == kind
            profiles = _solve(whole, units)[own].unflatten(-2, (len(units), -1)).squeeze(-1)
            cycle.put(series[own], units, profiles)


def _preferred(
    change: Float[Tensor, "kinds folds series"], scored: Float[Tensor, "folds series"]
) -> Int[Tensor, " series"]:
    """Return the kind of each series; none only where it is the best."""
    best = change.sum(1).argmin(0)
    worse = change - change.gather(0, best.expand_as(change))
    near = worse.sum(1) <= standard_error(worse, scored)
    near[0] = False
    # argmax of booleans: the first kind that is near the best
    return torch.where(best == 0, 0, near.to(torch.uint8).argmax(0))


def _change(others: RidgeSums, fold: RidgeSums, units: list[int]) -> Float[Tensor, "folds series"]:
    """Return the change in squared error of each fold with the profile of the other folds."""
    return _select(fold, units).change_in_error(_solve(others, units))


def _solve(sums: RidgeSums, units: list[int]) -> Float[Tensor, "*groups inputs 1"]:
    """Return the profiles in some of the units, one after the other."""
    return _select(sums, units).solve(_PENALTY, blocks=len(units))


def _select(sums: RidgeSums, units: list[int]) -> RidgeSums:
    """Return the normal equations of the profiles in some of the units."""
    slots = sums.outer.shape[-2] // 2
    kept = torch.cat([torch.arange(unit * slots, (unit + 1) * slots) for unit in units])
    return RidgeSums(sums.rows, sums.inner[..., kept[:, None], kept], sums.outer[..., kept, :])


def _normal_equations(
    response: Float[Tensor, "horizon slots"], sums: ProfileSums
) -> Iterator[tuple[Int[Tensor, " series"], RidgeSums]]:
    """Yield series, a few at a time, and the normal equations of each fold of them.

    The inputs are the slots in units of the series, then the slots in deviations.
    """
    folds, series, slots = sums.weights.shape[:3]
    square = response.T @ response
    # A horizon that begins at another place sees the same response with the slots rotated, so X'X
    # of all windows is a weighted sum of rotations of one matrix.
    rotated = (torch.arange(slots)[None] - torch.arange(slots)[:, None]) % slots  # place, slot
    inner = torch.stack([square[row][:, row] for row in rotated]).flatten(1)  # place, slot * slot
    at_once = max(1, _MOST_NUMBERS // (folds * 4 * slots * slots))
    for some in torch.arange(series).split(at_once):
        own = sums.weights[:, some]
        normal = (own.permute(0, 1, 3, 4, 2) @ inner).unflatten(-1, (slots, slots))
        # folds, series, unit, unit, slot, slot -> folds, series, (unit slot), (unit slot)
        normal = normal.transpose(3, 4).flatten(4, 5).flatten(2, 3)
        windows = own[..., 0, 0].sum(-1)  # the first unit is 1: its products count windows
        yield some, RidgeSums(windows, normal, sums.outer[:, some].flatten(2)[..., None])


def _response(network: ForecastNetwork) -> Float[Tensor, "horizon slots"]:
    """Return how a profile changes a forecast whose horizon begins at the cycle's first slot.

    The profile is added to the horizon, and taken off the look-back that the linear part reads.
    At another place in the cycle the slots are rotated.
    """
    config = network.config
    context, horizon = config.context_length, config.horizon
    assert config.cycle is not None
    slots = config.future_cardinalities[config.cycle] - 1
    weight = network.linear.weight.double().cpu()
    centre = torch.zeros(context, dtype=torch.double)
    if config.normalise == "mean":
        centre += 1 / context
    elif config.normalise == "last":
        centre[-1] = 1.0
    # The linear part with the centring folded in: W x + (1 - W 1) centre(x)
    linear = weight + (1 - weight.sum(1, keepdim=True)) * centre
    places = torch.arange(-context, horizon) % slots
    one_hot = nn.functional.one_hot(places, slots).double()
    return one_hot[context:] - linear @ one_hot[:context]


def _profile_sums(
    network: ForecastNetwork, response: Float[Tensor, "horizon slots"], folds: FoldedBatches
) -> ProfileSums:
    """Return the sums over windows without missing values in which the slots follow in turn.

    The network's own profiles must be zero.
    """
    config, cycle = network.config, network.cycle
    assert config.cycle is not None
    assert cycle is not None
    (series, slots), device = cycle.fixed.shape, network.linear.weight.device
    slots -= 1  # without the unknown slot
    weights = torch.zeros(FOLDS * series * slots, 4, dtype=torch.double)
    outer = torch.zeros(FOLDS * series, 2 * slots, dtype=torch.double)
    for batch, fold in folds:
        windows = batch.windows
        codes = windows.future_codes[..., config.cycle] - 1
        usable = (fold >= 0) & windows.seen.all(1) & batch.target_seen.all(1)
        usable &= ((codes.diff(dim=1) - 1) % slots == 0).all(1) & (codes >= 0).all(1)
        spread = window_scale(windows.history, windows.seen, config.normalise).spread[:, 0].double()
        units = torch.stack([torch.ones_like(spread), spread], dim=1) * usable[:, None]
        expected = network.baseline(windows.to(device)).expected().cpu()
        residual = torch.where(usable[:, None], batch.target - expected, 0.0).double()
        place = codes[:, config.context_length] % slots
        rotation = (torch.arange(slots) - place[:, None]) % slots
        contribution = (residual @ response).gather(1, rotation)  # batch, slots
        group = fold.clamp(min=0) * series + series_codes(batch)
        products = (units[:, :, None] * units[:, None]).flatten(1)  # batch, unit * unit
        weights.index_add_(0, group * slots + place, products)
        outer.index_add_(0, group, (units[:, :, None] * contribution[:, None]).flatten(1))
    return ProfileSums(
        weights.view(FOLDS, series, slots, 2, 2), outer.view(FOLDS, series, 2, slots)
    )
