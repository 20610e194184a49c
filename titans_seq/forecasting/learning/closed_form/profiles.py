"""Profiles of a cycle, solved for: the hour of the day of each series, in the units that tell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from titans_seq.forecasting.learning.closed_form.held_out import FOLDS, scored_folds, standard_error
from titans_seq.forecasting.learning.closed_form.linear import series_codes
from titans_seq.forecasting.learning.windows import WindowBatch
from titans_seq.forecasting.network.heads import window_scale
from titans_seq.forecasting.network.network import ForecastNetwork

PENALTY = 0.01
"""Penalty of a profile's slots, over what a slot weighs on the average."""

MOST_NUMBERS = 20_000_000
"""Numbers of normal equations that are held at once."""


class ProfileSums(NamedTuple):
    """Sums over the windows of each fold and series; units are 1 and the look-back's deviation."""

    weight: Float[Tensor, "folds series places 2 2"]
    """Products of the units, at each place in the cycle at which a window forecasts."""

    told: Float[Tensor, "folds series 2 slots"]
    """What the forecasts without a profile lack, in what each slot would add to them."""


class Equations(NamedTuple):
    """Normal equations of the profiles in both units, one after the other."""

    normal: Float[Tensor, "*rest both both"]
    told: Float[Tensor, "*rest both"]

    def of(self, units: list[int]) -> Equations:
        """Return those of the profiles in some of the units."""
        slots = self.told.shape[-1] // 2
        kept = torch.cat([torch.arange(unit * slots, (unit + 1) * slots) for unit in units])
        return Equations(self.normal[..., kept[:, None], kept], self.told[..., kept])

    def solution(self, units: int) -> Float[Tensor, "*rest slots"]:
        """Return the profiles, penalised in each of so many units by what its slots weigh."""
        diagonal = self.normal.diagonal(dim1=-2, dim2=-1).unflatten(-1, (units, -1))
        penalty = PENALTY * diagonal.mean(-1, keepdim=True)
        penalty = torch.where(penalty > 0, penalty, 1.0).expand_as(diagonal).flatten(-2)
        found: Tensor = torch.linalg.solve(self.normal + torch.diag_embed(penalty), self.told)
        return found


KINDS: tuple[list[int], ...] = ([], [1], [0], [0, 1])
"""Units of a series' profile: none, deviations of the look-back, its own, or a sum of both.

In the order in which they are preferred: what grows with the look-back holds in any season.
"""


@torch.no_grad()
def solve_profiles(
    network: ForecastNetwork, folds: Iterable[tuple[WindowBatch, Int[Tensor, " batch"]]]
) -> None:
    """Give each series of a network the profile that held-out windows bear out.

    It is the one that least squares give it in its own units, in deviations of the look-back,
    in both, or none; each fold is forecast with what the others give. The first kind that does
    no worse than the best by more than a standard error over the folds is taken.

    Parameters
    ----------
    network
        Whose profiles are set; its linear part and its other effects stay as they are.
    folds
        Windows, with the fold of each; fold -1 does not count.
    """
    cycle = network.cycle
    assert cycle is not None
    cycle.clear()
    matrix = _response(network)
    sums = _profile_sums(network, matrix, folds)
    for series, equations in _equations(matrix, sums):
        count = sums.weight[:, series, :, 0, 0].sum(-1)
        told = scored_folds(count).double()
        whole = Equations(*(part.sum(0) for part in equations))
        rest = Equations(*(one - part for one, part in zip(whole, equations, strict=True)))
        change = [torch.zeros_like(told)]
        change += [told * _change(rest, equations, units) for units in KINDS[1:]]
        chosen = _preferred(torch.stack(change), told)
        for kind, units in enumerate(KINDS[1:], start=1):
            own = chosen == kind
            found = whole.of(units).solution(len(units))[own].unflatten(-1, (len(units), -1))
            cycle.put(series[own], units, found)


def _preferred(
    change: Float[Tensor, "kinds folds series"], told: Float[Tensor, "folds series"]
) -> Int[Tensor, " series"]:
    """Return the kind of each series, none only where it is best."""
    best = change.sum(1).argmin(0)
    worse = change - change.gather(0, best.expand_as(change))
    near = worse.sum(1) <= standard_error(worse, told)
    near[0] = False
    return torch.where(best == 0, 0, near.to(torch.uint8).argmax(0))


def _change(rest: Equations, fold: Equations, units: list[int]) -> Float[Tensor, "folds series"]:
    """Return by how much squared errors of a fold change with the profile that the rest gives."""
    profile = rest.of(units).solution(len(units))
    normal, told = fold.of(units)
    square = (profile * (normal @ profile[..., None]).squeeze(-1)).sum(-1)
    return square - 2 * (profile * told).sum(-1)


def _equations(
    matrix: Float[Tensor, "horizon slots"], sums: ProfileSums
) -> Iterator[tuple[Int[Tensor, " series"], Equations]]:
    """Yield series, a few at a time, and the normal equations of each fold of them."""
    folds, series, slots = sums.weight.shape[:3]
    square = matrix.T @ matrix
    turned = (torch.arange(slots)[None] - torch.arange(slots)[:, None]) % slots  # place, slot
    inner = torch.stack([square[row][:, row] for row in turned]).flatten(1)
    at_once = max(1, MOST_NUMBERS // (folds * 4 * slots * slots))
    for some in torch.arange(series).split(at_once):
        weight = sums.weight[:, some].permute(0, 1, 3, 4, 2)
        normal = (weight @ inner).unflatten(-1, (slots, slots))  # folds, series, 2, 2, slots, slots
        normal = normal.transpose(3, 4).flatten(4, 5).flatten(2, 3)
        yield some, Equations(normal, sums.told[:, some].flatten(2))


def _response(network: ForecastNetwork) -> Float[Tensor, "horizon slots"]:
    """Return what a profile adds to a forecast that begins at the cycle's first slot.

    It adds itself ahead, and takes off what the linear part makes of it in the look-back.
    At another place in the cycle it is the same but turned.
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
    whole = weight + (1 - weight.sum(1, keepdim=True)) * centre
    places = torch.arange(-context, horizon) % slots
    rows = nn.functional.one_hot(places, slots).double()
    return rows[context:] - whole @ rows[:context]


def _profile_sums(
    network: ForecastNetwork,
    matrix: Float[Tensor, "horizon slots"],
    folds: Iterable[tuple[WindowBatch, Int[Tensor, " batch"]]],
) -> ProfileSums:
    """Return the sums over all windows that were seen whole and in which no slot is left out.

    The network's own profiles must be zero.
    """
    config, cycle = network.config, network.cycle
    assert config.cycle is not None
    assert cycle is not None
    (series, slots), device = cycle.fixed.shape, network.linear.weight.device
    slots -= 1
    weight = torch.zeros(FOLDS * series * slots, 4, dtype=torch.double)
    told = torch.zeros(FOLDS * series, 2 * slots, dtype=torch.double)
    for batch, fold in folds:
        windows = batch.windows
        codes = windows.future_codes[..., config.cycle] - 1
        counts = (fold >= 0) & windows.seen.all(1) & batch.target_seen.all(1)
        counts &= ((codes.diff(dim=1) - 1) % slots == 0).all(1) & (codes >= 0).all(1)
        spread = window_scale(windows.history, windows.seen, config.normalise).spread[:, 0].double()
        units = torch.stack([torch.ones_like(spread), spread], dim=1) * counts[:, None]
        came = network.baseline(windows.to(device)).expected().cpu()
        missed = torch.where(counts[:, None], batch.target - came, 0.0).double()
        place = codes[:, config.context_length] % slots
        adds = (missed @ matrix).gather(1, (torch.arange(slots) - place[:, None]) % slots)
        own = fold.clamp(min=0) * series + series_codes(batch)
        weight.index_add_(0, own * slots + place, (units[:, :, None] * units[:, None]).flatten(1))
        told.index_add_(0, own, (units[:, :, None] * adds[:, None]).flatten(1))
    return ProfileSums(weight.view(FOLDS, series, slots, 2, 2), told.view(FOLDS, series, 2, slots))
