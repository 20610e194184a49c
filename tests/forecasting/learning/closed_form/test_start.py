"""What is solved for before training: profiles of a cycle, in either unit, or none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from torch import Tensor

from titans_seq.forecasting import TitansForecaster
from titans_seq.forecasting.learning.closed_form import calendar, profiles, start
from titans_seq.forecasting.learning.closed_form.held_out import (
    scored_folds,
    standard_error,
    stretch_of,
)
from titans_seq.forecasting.learning.windows import (
    WindowBatch,
    WindowBatches,
    WindowIndex,
    gather,
    index_windows,
)
from titans_seq.forecasting.network.config import NetworkConfig
from titans_seq.forecasting.network.heads import Normalisation
from titans_seq.forecasting.network.network import ForecastNetwork
from titans_seq.forecasting.tables.frames import ColumnRoles
from titans_seq.forecasting.tables.panel import Panel, Preprocess, without_cycles
from titans_seq.forecasting.tables.table import table_from_frame

COLUMNS = ColumnRoles(id="unique_id", time="ds", target=("y",))
CONTEXT, HORIZON, DAY = 16, 9, 24
WEEK = 7 * DAY
Floats = npt.NDArray[np.float64]


def _panel(series: dict[str, Floats]) -> tuple[Preprocess, Panel]:
    frame = pd.concat(
        pd.DataFrame(
            {"unique_id": name, "ds": pd.date_range("2024-01-01", periods=len(y), freq="h"), "y": y}
        )
        for name, y in series.items()
    )
    table = table_from_frame(frame, COLUMNS)
    learnt = Preprocess.learn(table, COLUMNS, table.lengths())
    return learnt, learnt.panel(table, COLUMNS)


def _days(rng: np.random.Generator, rows: int = 12 * WEEK) -> dict[str, Floats]:
    """Return a day that is always the same, one as large as its week, and none."""
    hours = np.arange(rows)
    shape = rng.normal(size=DAY)[hours % DAY]
    level, size = rng.normal(size=rows // WEEK), rng.uniform(0.2, 3, rows // WEEK)
    noise = 0.3 * rng.normal(size=(3, rows))
    walk = np.cumsum(rng.normal(size=rows))
    # what moves the look-back besides the day moves it differently from week to week
    wild = 2 * np.sin(hours / 3.7) * size[hours // WEEK]
    return {
        "fixed": 2 * shape + wild + 2 * level[hours // WEEK] + noise[0],
        "scaled": size[hours // WEEK] * (shape + 0.1 * noise[1]),
        "none": walk + noise[2],
    }


def _network(
    learnt: Preprocess, normalise: Normalisation = "mean", *, maps: bool = False
) -> ForecastNetwork:
    torch.manual_seed(0)
    sizes: dict[str, Any] = learnt.sizes(COLUMNS)
    return ForecastNetwork(
        NetworkConfig(context_length=CONTEXT, horizon=HORIZON, dim=8, heads=2,
                      normalise=normalise, series_maps=maps, **sizes)
    ).eval()  # fmt: skip


def _batches(panel: Panel, begin: int, end: int) -> WindowBatches:
    count = len(panel.starts) - 1
    index = index_windows(panel, [begin] * count, [end] * count, horizon=HORIZON)
    return WindowBatches(
        panel, index, context_length=CONTEXT, horizon=HORIZON, batch_size=256, per_epoch=100_000
    )


def _folds(batches: Iterable[WindowBatch], fold: int = 0) -> Iterator[tuple[WindowBatch, Tensor]]:
    """Give all windows one fold."""
    for batch in batches:
        yield batch, torch.full((len(batch.target),), fold)


def _designs(
    network: ForecastNetwork, panel: Panel, index: WindowIndex, series: int
) -> tuple[Tensor, Tensor]:
    """Return what every slot, in both units, adds to every step of a series, and what it lacks."""
    assert network.cycle is not None
    own = index.take(index.series == series)
    batch = gather(panel, own, context_length=CONTEXT, horizon=HORIZON)
    before = network.baseline(batch.windows).expected().double()
    columns = []
    for table in (network.cycle.fixed, network.cycle.scaled):
        for slot in range(1, DAY + 1):
            table[series + 1, slot] = 1.0
            columns.append(network.baseline(batch.windows).expected().double() - before)
            table[series + 1, slot] = 0.0
    return torch.stack(columns, dim=-1), (batch.target - before).double()


@pytest.mark.parametrize("normalise", ["mean", "last", "none"])
@torch.no_grad()
def test_equations_are_those_of_all_windows_one_by_one(normalise: Normalisation) -> None:
    learnt, panel = _panel(_days(np.random.default_rng(0), rows=WEEK))
    network = _network(learnt, normalise)
    network.linear.weight.add_(0.1 * torch.randn(HORIZON, CONTEXT))
    batches = _batches(panel, CONTEXT, WEEK)
    response = profiles._response(network)
    sums = profiles._profile_sums(network, response, _folds(batches, 2))
    for series in range(3):
        design, lacks = (
            part.flatten(0, 1) for part in _designs(network, panel, batches.index, series)
        )
        (found,) = (
            own.group((2, series + 1))
            for some, own in profiles._normal_equations(response, sums)
            if series + 1 in some.tolist()
        )
        normal, outer = design.T @ design, design.T @ lacks
        torch.testing.assert_close(found.inner, normal, atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(found.outer[:, 0], outer, atol=1e-3, rtol=1e-4)
        for units, slots in (([0], slice(DAY)), ([1], slice(DAY, None)), ([0, 1], slice(None))):
            ridge = normal.diagonal().view(2, DAY).mean(1).repeat_interleave(DAY)[slots]
            by_hand = torch.linalg.solve(
                normal[slots, slots] + profiles._PENALTY * ridge.diag(), outer[slots]
            )
            solved = profiles._solve(found, units)[:, 0]
            torch.testing.assert_close(solved, by_hand, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_a_fold_is_scored_with_what_the_others_give() -> None:
    """The change in squared errors, against a network that has the others' profile."""
    learnt, panel = _panel(_days(np.random.default_rng(0), rows=2 * WEEK))
    network = _network(learnt)
    cycle = network.cycle
    assert cycle is not None
    early, late = _batches(panel, CONTEXT, WEEK), _batches(panel, WEEK, 2 * WEEK)
    response = profiles._response(network)
    both = [*_folds(early, 0), *_folds(late, 4)]
    sums = profiles._profile_sums(network, response, both)
    ((_, fold),) = profiles._normal_equations(response, sums)
    others = fold.leave_one_out()
    changed = profiles._change(others, fold, [0, 1])[4]
    before = _squares(network, late, panel)
    given = profiles._solve(others, [0, 1])[4, ..., 0].unflatten(-1, (2, -1))
    cycle.put(torch.arange(4), [0, 1], given)
    expected = _squares(network, late, panel) - before
    torch.testing.assert_close(changed[1:], expected, atol=1e-2, rtol=1e-4)


def _squares(network: ForecastNetwork, batches: WindowBatches, panel: Panel) -> Tensor:
    """Return the squared error of each series."""
    errors = torch.zeros(3, dtype=torch.double)
    for batch in batches:
        missed = (batch.target - network.baseline(batch.windows).expected()).double()
        errors.index_add_(0, batch.windows.static_codes[:, -1] - 1, missed.square().sum(1))
    return errors


@torch.no_grad()
def test_each_series_has_the_profile_that_it_shows() -> None:
    learnt, panel = _panel(_days(np.random.default_rng(1)))
    network = _network(learnt)
    assert network.cycle is not None
    cycle = network.cycle
    train, held_out = _batches(panel, CONTEXT, 8 * WEEK), _batches(panel, 8 * WEEK, 12 * WEEK)
    start.solve_start(network, train, held_out)
    fixed, scaled = (table.abs().sum(1) > 0 for table in (cycle.fixed, cycle.scaled))
    code = {name: place + 1 for place, name in enumerate(learnt.ids)}
    assert fixed[code["fixed"]]
    assert scaled[code["scaled"]]
    assert not fixed[code["none"]]
    assert not scaled[code["none"]]
    torch.testing.assert_close(cycle.used[:, 1:, 0] > 0, torch.stack([fixed, scaled])[:, 1:])
    assert cycle.fixed[:, 0].abs().sum() + cycle.scaled[:, 0].abs().sum() == 0


@torch.no_grad()
def test_windows_with_gaps_or_slots_out_of_turn_do_not_count() -> None:
    learnt, panel = _panel(_days(np.random.default_rng(0), rows=WEEK))
    network, batches = _network(learnt), _batches(panel, CONTEXT, WEEK)
    response = profiles._response(network)
    expected = profiles._profile_sums(network, response, _folds(batches))
    spoilt = []
    for batch in batches:
        windows, few = batch.windows, batch.target_seen.clone()
        few[:, 0] = False
        summer = windows.future_codes.clone()
        summer[:, 3:] = 1 + summer[:, 3:] % DAY
        spoilt += [
            batch,
            batch._replace(target=batch.target + 50, target_seen=few),
            batch._replace(windows=windows._replace(future_codes=summer), target=batch.target + 50),
        ]
    unplaced = [
        (batch._replace(target=batch.target + 50), fold) for batch, fold in _folds(batches, -1)
    ]
    found = profiles._profile_sums(network, response, [*_folds(spoilt), *unplaced])
    torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_a_series_never_seen_has_the_mean_profile() -> None:
    learnt, _ = _panel(_days(np.random.default_rng(0), rows=WEEK))
    network = _network(learnt)
    assert network.cycle is not None
    torch.nn.init.normal_(network.cycle.fixed)
    network.settle_unknown()
    torch.testing.assert_close(network.cycle.fixed[0], network.cycle.fixed[1:].mean(0))


def _rates(network: ForecastNetwork) -> dict[str, float]:
    names = {parameter: name for name, parameter in network.named_parameters()}
    return {
        names[parameter]: group.lr_scale
        for group in network.parameter_groups()
        for parameter in group.parameters
    }


def test_what_was_solved_for_learns_slowly_and_what_was_not_chosen_not_at_all() -> None:
    learnt, panel = _panel(_days(np.random.default_rng(1)))
    network = _network(learnt)
    cycle = network.cycle
    assert cycle is not None
    start.solve_start(
        network, _batches(panel, CONTEXT, 8 * WEEK), _batches(panel, 8 * WEEK, 12 * WEEK)
    )
    rates = _rates(network)
    solved = ("linear.weight", "linear.bias", "cycle.fixed", "cycle.scaled")
    assert [rates[name] for name in solved] == [start.SOLVED_RATE] * 4
    for batch in _batches(panel, CONTEXT, 12 * WEEK):
        network.baseline(batch.windows).expected().square().sum().backward()
    for used, table in zip(cycle.used, (cycle.fixed, cycle.scaled), strict=True):
        assert table.grad is not None
        assert not (table.grad * (1 - used)).any()
        assert bool((table.grad * used).any()) == bool(used.any())


def _weeks(*, telling: bool, rows: int = 16 * WEEK) -> dict[str, Floats]:
    """Return hours of noise, with Sundays that are the same each week or another each week."""
    rng = np.random.default_rng(2)
    days = np.arange(rows) // DAY
    weekday = np.array([0, 0, 0, 0, 0, 1.0, 3.0])[days % 7]
    other = rng.normal(size=days[-1] + 1)[days]
    return {name: (weekday if telling else other) + rng.normal(size=rows) for name in "ab"}


@pytest.mark.parametrize("telling", [True, False])
def test_a_cycle_that_tells_nothing_is_idle(telling: bool) -> None:
    learnt, panel = _panel(_weeks(telling=telling))
    network = _network(learnt)
    batches, held_out = _batches(panel, CONTEXT, 12 * WEEK), _batches(panel, 12 * WEEK, 16 * WEEK)
    start.solve_start(network, batches, held_out)
    assert learnt.cycles == ["time_of_day", "day_of_week"]
    assert start.idle_cycles(network, batches, held_out, 2) == ([] if telling else [1])


def test_a_network_without_an_idle_cycle_begins_where_solving_again_would() -> None:
    learnt, panel = _panel(_days(np.random.default_rng(1)))
    fewer, rest = without_cycles(learnt, panel, [1])
    parts = [(CONTEXT, 8 * WEEK), (8 * WEEK, 12 * WEEK)]
    first, again, taken = (_network(one, maps=True) for one in (learnt, fewer, fewer))
    start.solve_start(first, *(_batches(panel, *part) for part in parts))
    start.solve_start(again, *(_batches(rest, *part) for part in parts))
    start.take_start(taken, first)
    assert torch.equal(taken.linear.weight, again.linear.weight)
    assert taken.series_maps is not None
    assert taken.series_maps.weight.any()
    for batch in _batches(rest, CONTEXT, 12 * WEEK):
        expected = again.baseline(batch.windows).expected()
        assert torch.equal(taken.baseline(batch.windows).expected(), expected)
    assert _rates(taken) == _rates(again)


def test_a_cycle_that_tells_in_some_stretches_only_is_idle() -> None:
    weeks = _weeks(telling=True)
    often = np.repeat(np.where(np.arange(16) < 6, 1.0, 0.1), WEEK)
    learnt, panel = _panel({name: y * often for name, y in weeks.items()})
    network = _network(learnt)
    batches, held_out = _batches(panel, CONTEXT, 12 * WEEK), _batches(panel, 12 * WEEK, 16 * WEEK)
    start.solve_start(network, batches, held_out)
    with pytest.MonkeyPatch.context() as patch:  # on the whole it is right more than wrong
        patch.setattr(calendar, "standard_error", lambda change, scored: 0.0)
        assert start.idle_cycles(network, batches, held_out, 2) == []
    assert start.idle_cycles(network, batches, held_out, 2) == [1]


@pytest.mark.slow
@pytest.mark.parametrize("telling", [True, False])
def test_a_forecaster_goes_without_an_idle_cycle(telling: bool) -> None:
    rows = 16 * WEEK
    times = pd.date_range("2024-01-01", periods=rows, freq="h")
    frame = pd.concat(
        pd.DataFrame({"unique_id": name, "ds": times, "y": y})
        for name, y in _weeks(telling=telling, rows=rows).items()
    )
    forecaster = TitansForecaster(
        horizon=HORIZON, context_length=CONTEXT, max_epochs=1, random_state=0
    )
    forecaster.fit(frame)
    kept = ["time_of_day", "day_of_week"] if telling else ["time_of_day"]
    assert forecaster.preprocess_.cycles == kept
    assert len(forecaster.network_.config.future_cardinalities) == len(kept)
    assert np.isfinite(forecaster.predict()["y_pred"]).all()


def test_of_kinds_that_do_as_well_the_first_is_taken_but_none_only_where_it_is_best() -> None:
    scored = torch.tensor([[1.0] * 5] * 4 + [[0.0] * 5]).double()
    change = torch.zeros(4, 5, 5).double()
    change[1:, :4, 0] = torch.tensor([[1.0], [2], [3]])  # each worse than none
    change[1:, :4, 1] = torch.tensor([[-5.0, -3, -5, -3], [-4, -4, -4, -5], [-9, -9, -9, -9]])
    change[1:, :4, 2] = torch.tensor([[-5.0, -3, -5, -3], [-4, -5, -4, -5], [-4, -4, -4, -4]])
    change[1:, :4, 3] = torch.tensor([[-1.0, -1, -1, -1], [-4, -5, -4, -5], [-5, -4, -5, -5]])
    change[1:, :4, 4] = torch.tensor([[-1.0, 2, -1, -1], [-9, 9, 0, 2], [9, 9, 9, 9]])
    change[1:, 4] = 100 * torch.randn(3, 5)  # is not scored_folds
    change[:, 4] *= scored[4]
    assert profiles._preferred(change, scored).tolist() == [0, 3, 1, 2, 1]


def test_stretches_hold_whole_horizons() -> None:
    cutoffs = torch.cat([torch.arange(100, 200), torch.arange(300, 312)])
    series = torch.cat([torch.zeros(100), torch.ones(12)]).long()
    found = stretch_of(WindowIndex(series, cutoffs), 5)
    assert found[:100].unique().tolist() == [-1, 0, 1, 2, 3]
    assert (found[100:] == 0).all()  # of less than four horizons there is one stretch
    for stretch in range(4):
        inside = cutoffs[:100][found[:100] == stretch]
        assert inside.min() >= 100 + 25 * stretch
        assert stretch == 3 or inside.max() + 5 <= 100 + 25 * (stretch + 1)


def test_the_error_of_a_sum_is_of_the_scored_folds() -> None:
    rng = np.random.default_rng(0)
    scored = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]], dtype=float)
    change = rng.normal(size=(2, 4, 3)) * scored
    found = standard_error(torch.from_numpy(change), torch.from_numpy(scored)).numpy()
    for kind in range(2):
        for series, folds in enumerate((4, 3)):
            seen = change[kind, scored[:, series] == 1, series]
            expected = np.std(seen, ddof=1) * np.sqrt(folds)
            np.testing.assert_allclose(found[kind, series], expected)
    assert (found[:, 2] == 0).all()  # one fold alone leaves no doubt that could be counted


def test_a_stretch_is_scored_if_most_windows_are_elsewhere() -> None:
    counts = torch.tensor([[3.0, 9.0], [3.0, 0.0], [3.0, 0.0], [3.0, 0.0], [3.0, 2.0]])
    assert scored_folds(counts).tolist() == [
        [True, False],
        [True] * 2,
        [True] * 2,
        [True] * 2,
        [True] * 2,
    ]
