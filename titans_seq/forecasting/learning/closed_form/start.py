"""Closed-form start of training: everything linear is solved, and held-out windows choose.

Besides the linear part that is the profile of a cycle, the hour of the day of each series. A cycle
that gradient steps learn in the units of one season is wrong in the next; here everything that
does not help on held-out windows is left out.
"""

from __future__ import annotations

from titans_seq.forecasting.learning.closed_form.calendar import informative_cycles
from titans_seq.forecasting.learning.closed_form.held_out import Folds
from titans_seq.forecasting.learning.closed_form.linear import solve_linear
from titans_seq.forecasting.learning.closed_form.per_series_ridge import solve_series_maps
from titans_seq.forecasting.learning.closed_form.profiles import solve_profiles
from titans_seq.forecasting.learning.windows import WindowBatches
from titans_seq.forecasting.network.network import ForecastNetwork

_ROUNDS = 2
"""How often the profiles and the linear part are solved in turn."""

SOLVED_RATE = 0.1
"""Learning rate of solved parameters, relative to that of a linear part trained from scratch."""


def solve_start(
    network: ForecastNetwork, batches: WindowBatches, validation: WindowBatches
) -> None:
    """Solve the linear part of a new network, its cycle's profiles, and the maps of series.

    Parameters
    ----------
    network
        Its other covariates have no effect yet.
    batches, validation
        Windows to solve from, and to choose by, in an order that does not change.
    """
    prior = network.linear.weight.detach().clone()
    solve_linear(network, prior, batches, validation)
    folds = Folds(batches, validation)
    if network.cycle is not None:
        for _ in range(_ROUNDS):
            solve_profiles(network, folds)
            solve_linear(network, prior, batches, validation)
    if network.series_maps is not None:
        solve_series_maps(network, folds)
    _slow_down(network)


def take_start(network: ForecastNetwork, solved: ForecastNetwork) -> None:
    """Copy the solved parts of a network into one with fewer future categories.

    The solution does not depend on those categories, so it need not be computed again.
    """
    for name in ("linear", "cycle", "series_maps"):
        module = getattr(solved, name)
        if module is not None:
            getattr(network, name).load_state_dict(module.state_dict())
    _slow_down(network)


def _slow_down(network: ForecastNetwork) -> None:
    """Lower the learning rate of the solved parameters."""
    network.lr_scales |= dict.fromkeys(("linear", "cycle"), SOLVED_RATE)


def idle_cycles(
    network: ForecastNetwork, batches: WindowBatches, validation: WindowBatches, cycles: int
) -> list[int]:
    """Return which cycles of the calendar do not improve forecasts, as numbers from 0.

    The cycle that has profiles is never among them.

    Parameters
    ----------
    network
        Solved.
    batches, validation
        Windows, in an order that does not change.
    cycles
        How many of the last future categories are cycles of the calendar.
    """
    categories = len(network.config.future_cardinalities)
    first = categories - cycles
    columns = [column for column in range(first, categories) if column != network.config.cycle]
    if not columns:
        return []
    informative = informative_cycles(network, Folds(batches, validation), columns)
    return [column - first for column, keep in zip(columns, informative, strict=True) if not keep]
