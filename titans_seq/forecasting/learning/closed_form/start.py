"""Where training begins: all that is linear is solved for, and held-out windows choose.

Beside the linear part it is the profile of a cycle, the hour of the day of each series. A cycle
that gradient steps learn in the units of one season is wrong in the next; here whatever is no
better on held-out windows is left out.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Int
from torch import Tensor

from titans_seq.forecasting.learning.closed_form.calendar import informative_cycles
from titans_seq.forecasting.learning.closed_form.held_out import STRETCHES, stretch_of
from titans_seq.forecasting.learning.closed_form.linear import solve_linear
from titans_seq.forecasting.learning.closed_form.per_series_ridge import solve_maps
from titans_seq.forecasting.learning.closed_form.profiles import solve_profiles
from titans_seq.forecasting.learning.windows import WindowBatch, WindowBatches
from titans_seq.forecasting.network.network import ForecastNetwork

_ROUNDS = 2
"""How often the profiles and the linear part are solved for in turn."""

SOLVED_RATE = 0.1
"""Learning rate of what was solved for, over what it is where everything is learnt."""


class Folds:
    """Windows to train on and validation windows, with the fold that each is held out in.

    Parameters
    ----------
    batches, validation
        In an order that does not change.
    """

    def __init__(self, batches: WindowBatches, validation: WindowBatches) -> None:
        self.batches, self.validation = batches, validation
        self.stretches = stretch_of(batches.drawn(), batches.lengths["horizon"])

    def __iter__(self) -> Iterator[tuple[WindowBatch, Int[Tensor, " batch"]]]:
        yield from zip(self.batches, self.stretches.split(self.batches.batch_size), strict=True)
        for batch in self.validation:
            yield batch, torch.full((len(batch.target),), STRETCHES)


def solve_start(
    network: ForecastNetwork, batches: WindowBatches, validation: WindowBatches
) -> None:
    """Solve for the linear part of a new network, its cycle's profiles, and the maps of series.

    Parameters
    ----------
    network
        Whose other covariates have no effect yet.
    batches, validation
        Windows to solve for, and to choose by, in an order that does not change.
    """
    first = network.linear.weight.detach().clone()
    solve_linear(network, first, batches, validation)
    folds = Folds(batches, validation)
    if network.cycle is not None:
        for _ in range(_ROUNDS):
            solve_profiles(network, folds)
            solve_linear(network, first, batches, validation)
    if network.series_maps is not None:
        solve_maps(network, folds)
    _slow_down(network)


def take_start(network: ForecastNetwork, solved: ForecastNetwork) -> None:
    """Give a new network what was solved for another, which knew more categories ahead.

    What is solved for does not depend on them, so that it need not be solved for again.
    """
    for name in ("linear", "cycle", "series_maps"):
        part = getattr(solved, name)
        if part is not None:
            getattr(network, name).load_state_dict(part.state_dict())
    _slow_down(network)


def _slow_down(network: ForecastNetwork) -> None:
    """Let the parameters that were solved for learn slowly."""
    for part in (network.linear, network.cycle):
        for parameter in [] if part is None else part.parameters():
            parameter.lr_scale = SOLVED_RATE  # type: ignore[attr-defined]


def idle_cycles(
    network: ForecastNetwork, batches: WindowBatches, validation: WindowBatches, cycles: int
) -> list[int]:
    """Return which of a network's last categories known ahead, cycles, tell nothing.

    The one that has profiles is not among them.

    Parameters
    ----------
    network
        Solved for.
    batches, validation
        Windows, in an order that does not change.
    cycles
        How many of the categories are cycles of the calendar.
    """
    known = len(network.config.future_cardinalities)
    columns = [c for c in range(known - cycles, known) if c != network.config.cycle]
    if not columns:
        return []
    told = informative_cycles(network, Folds(batches, validation), columns)
    return [c - known + cycles for c, telling in zip(columns, told, strict=True) if not telling]
