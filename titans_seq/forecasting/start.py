"""Where training begins: all that is linear is solved for, and held-out windows choose.

Beside the linear part it is the profile of a cycle, the hour of the day: of each series, in its
own units or in deviations of the look-back. A cycle that gradient steps learn in the units of one
season is wrong in the next; here whatever is no better on held-out windows is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from titans_seq.forecasting.covariates import CycleEffect
from titans_seq.forecasting.heads import scale_of
from titans_seq.forecasting.linear import series_of, solve_linear
from titans_seq.forecasting.network import ForecastNetwork
from titans_seq.forecasting.windows import WindowBatch

ROUNDS = 2
"""How often a profile and the linear part are solved for in turn."""

PENALTY = 0.01
"""Penalty of a profile's slots, over what a slot weighs on the average."""

MOST_SUMS = 50_000_000
"""Numbers that are kept of all series and places of a cycle; of more the profiles are learnt."""

SOLVED_RATE = 0.1
"""Learning rate of what was solved for, over what it is where everything is learnt."""


class CycleSums(NamedTuple):
    """Sums over the windows of each series and each place in the cycle at which it forecasts."""

    weight: Float[Tensor, "series places"]
    """Of the squared unit of the profile."""

    lacking: Float[Tensor, "series places horizon"]
    """Of the unit times what the forecast without a profile lacks."""


@torch.no_grad()
def solve_start(
    network: ForecastNetwork, batches: Iterable[WindowBatch], validation: Iterable[WindowBatch]
) -> None:
    """Solve for the linear part and the cycle's profiles of a new network.

    Each series has the profile that does best on its validation windows: in its own units, in
    deviations of the look-back, or none.

    Parameters
    ----------
    network
        Whose other covariates have no effect yet.
    batches, validation
        Windows to solve for, and to choose by, in an order that does not change.
    """
    first = network.linear.weight.clone()
    solved: list[nn.Module] = [network.linear]
    errors = [solve_linear(network, first, batches, validation)]
    cycle = network.cycle
    if cycle is not None and _sums_kept(cycle, network.config.horizon) <= MOST_SUMS:
        plain = network.linear.weight.clone()
        found: list[Tensor] = []
        for table in (cycle.fixed, cycle.scaled):
            network.linear.weight.copy_(plain)
            for _ in range(ROUNDS):
                table.zero_()
                table.copy_(_profiles(network, batches, scaled=table is cycle.scaled))
                error = solve_linear(network, first, batches, validation)
            found.append(table.clone())
            errors.append(error)
            table.zero_()
        best = torch.stack(errors).argmin(0).to(first.device)
        for kind, table in enumerate((cycle.fixed, cycle.scaled)):
            table.copy_(found[kind] * (best == kind + 1)[:, None])
        solve_linear(network, first, batches, validation)
        solved.append(cycle)
    for part in solved:
        for parameter in part.parameters():
            parameter.lr_scale = SOLVED_RATE  # type: ignore[attr-defined]


def _sums_kept(cycle: CycleEffect, horizon: int) -> int:
    """Return how many numbers are kept of all series: a row of the horizon or of slots a place."""
    return cycle.fixed.numel() * max(horizon, cycle.fixed.shape[1])


def _profiles(
    network: ForecastNetwork, batches: Iterable[WindowBatch], *, scaled: bool
) -> Float[Tensor, "series slots"]:
    """Return the profile of each series by least squares, given the linear part and no profile.

    What a window forecasts is linear in the profile, by a matrix that is the same for all
    windows at one place in the cycle, and at another place the same but turned.
    """
    matrix = _response(network)
    sums = _cycle_sums(network, batches, scaled=scaled)
    slots = matrix.shape[1]
    square, sides = matrix.T @ matrix, sums.lacking @ matrix
    turned = torch.arange(slots)[None] - torch.arange(slots)[:, None]  # place, slot
    inner = torch.stack([square[row][:, row] for row in turned])
    told = torch.stack([sides[:, place, row] for place, row in enumerate(turned)]).sum(0)
    normal = torch.einsum("sp,pij->sij", sums.weight, inner)
    penalty = PENALTY * normal.diagonal(dim1=1, dim2=2).mean(1)
    normal = normal + penalty[:, None, None] * torch.eye(slots, dtype=torch.double)
    normal[penalty == 0] = torch.eye(slots, dtype=torch.double)
    profiles = torch.linalg.solve(normal, told)
    assert network.cycle is not None
    table = torch.zeros_like(network.cycle.fixed)
    table[:, 1:] = profiles.to(table)
    return table


def _response(network: ForecastNetwork) -> Float[Tensor, "horizon slots"]:
    """Return what a profile adds to a forecast that begins at the cycle's first slot.

    It adds itself ahead, and takes off what the linear part makes of it in the look-back.
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


def _cycle_sums(
    network: ForecastNetwork, batches: Iterable[WindowBatch], *, scaled: bool
) -> CycleSums:
    """Return the sums over all windows that were seen whole and in which no slot is left out.

    The network's own profiles must be zero.
    """
    config, cycle = network.config, network.cycle
    assert config.cycle is not None
    assert cycle is not None
    (series, slots), horizon = cycle.fixed.shape, config.horizon
    slots -= 1
    weight = torch.zeros(series, slots, dtype=torch.double)
    lacking = torch.zeros(series * slots, horizon, dtype=torch.double)
    device = network.linear.weight.device
    for batch in batches:
        windows = batch.windows
        codes = windows.future_codes[..., config.cycle] - 1
        in_turn = ((codes.diff(dim=1) - 1) % slots == 0).all(1) & (codes >= 0).all(1)
        whole = in_turn & windows.seen.all(1) & batch.target_seen.all(1)
        unit = scale_of(windows.history, windows.seen, config.normalise).spread[:, 0].double()
        unit = (unit if scaled else torch.ones_like(unit)) * whole
        came = network.outline(windows.to(device)).expected().cpu()
        missed = torch.where(whole[:, None], batch.target - came, 0.0).double()
        place = series_of(batch) * slots + codes[:, config.context_length] % slots
        weight.view(-1).index_add_(0, place, unit.square())
        lacking.index_add_(0, place, unit[:, None] * missed)
    return CycleSums(weight, lacking.view(series, slots, horizon))
