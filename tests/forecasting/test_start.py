"""What is solved for before training: profiles of a cycle, in either unit, or none."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from torch import Tensor

from titans_seq.forecasting import start
from titans_seq.forecasting.heads import Normalisation
from titans_seq.forecasting.network import ForecastNetwork
from titans_seq.forecasting.network_config import NetworkConfig
from titans_seq.forecasting.tables.frames import Columns
from titans_seq.forecasting.tables.panel import Panel, Preprocess
from titans_seq.forecasting.tables.table import read_table
from titans_seq.forecasting.windows import WindowBatches, WindowIndex, gather, index_windows

COLUMNS = Columns(id="unique_id", time="ds", target=("y",))
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
    table = read_table(frame, COLUMNS)
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


def _network(learnt: Preprocess, normalise: Normalisation = "mean") -> ForecastNetwork:
    torch.manual_seed(0)
    sizes: dict[str, Any] = learnt.sizes(COLUMNS)
    return ForecastNetwork(
        NetworkConfig(context_length=CONTEXT, horizon=HORIZON, dim=8, heads=2,
                      normalise=normalise, **sizes)
    ).eval()  # fmt: skip


def _batches(panel: Panel, begin: int, end: int) -> WindowBatches:
    count = len(panel.starts) - 1
    index = index_windows(panel, [begin] * count, [end] * count, horizon=HORIZON)
    return WindowBatches(
        panel, index, context_length=CONTEXT, horizon=HORIZON, batch_size=256, per_epoch=100_000
    )


def _one_by_one(
    network: ForecastNetwork, panel: Panel, index: WindowIndex, *, scaled: bool
) -> Tensor:
    """Return the profiles by least squares over a design matrix of every window and step."""
    assert network.cycle is not None
    table = network.cycle.scaled if scaled else network.cycle.fixed
    found = torch.zeros(table.shape, dtype=torch.double)
    for code in range(1, len(table)):
        own = index.take(index.series == code - 1)
        batch = gather(panel, own, context_length=CONTEXT, horizon=HORIZON)
        columns = []
        before = network.outline(batch.windows).expected().double()
        for slot in range(1, DAY + 1):
            table[code, slot] = 1.0
            columns.append(network.outline(batch.windows).expected().double() - before)
            table[code, slot] = 0.0
        design = torch.stack([one.flatten() for one in columns], dim=1)
        normal = design.T @ design
        penalty = start.PENALTY * normal.diagonal().mean() * torch.eye(DAY, dtype=torch.double)
        lacks = (batch.target - before).double().flatten()
        found[code, 1:] = torch.linalg.solve(normal + penalty, design.T @ lacks)
    return found


@pytest.mark.parametrize("normalise", ["mean", "last", "none"])
@pytest.mark.parametrize("scaled", [False, True])
@torch.no_grad()
def test_profiles_are_those_of_all_windows_one_by_one(
    normalise: Normalisation, scaled: bool
) -> None:
    learnt, panel = _panel(_days(np.random.default_rng(0), rows=WEEK))
    network = _network(learnt, normalise)
    network.linear.weight.add_(0.1 * torch.randn(HORIZON, CONTEXT))
    batches = _batches(panel, CONTEXT, WEEK)
    told = _one_by_one(network, panel, batches.index, scaled=scaled)
    found = start._profiles(network, batches, scaled=scaled)
    torch.testing.assert_close(found.double(), told, atol=2e-4, rtol=2e-3)


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
    assert not (fixed & scaled).any()
    assert cycle.fixed[:, 0].abs().sum() + cycle.scaled[:, 0].abs().sum() == 0


@torch.no_grad()
def test_windows_with_gaps_or_slots_out_of_turn_do_not_count() -> None:
    learnt, panel = _panel(_days(np.random.default_rng(0), rows=WEEK))
    network, batches = _network(learnt), _batches(panel, CONTEXT, WEEK)
    told = start._profiles(network, batches, scaled=False)
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
    torch.testing.assert_close(start._profiles(network, spoilt, scaled=False), told)


@torch.no_grad()
def test_a_series_never_seen_has_the_mean_profile() -> None:
    learnt, _ = _panel(_days(np.random.default_rng(0), rows=WEEK))
    network = _network(learnt)
    assert network.cycle is not None
    torch.nn.init.normal_(network.cycle.fixed)
    network.settle_unknown()
    torch.testing.assert_close(network.cycle.fixed[0], network.cycle.fixed[1:].mean(0))


@pytest.mark.parametrize(("most", "rate"), [(4 * 25 * 25, start.SOLVED_RATE), (4 * 25 * 25 - 1, 1)])
def test_of_too_many_series_the_profiles_are_learnt_at_their_own_rate(
    monkeypatch: pytest.MonkeyPatch, most: int, rate: float
) -> None:
    """Three series and the unknown one, 24 slots and the unknown one: more than the horizon."""
    monkeypatch.setattr(start, "MOST_SUMS", most)
    learnt, panel = _panel(_days(np.random.default_rng(0), rows=WEEK))
    network = _network(learnt)
    batches = _batches(panel, CONTEXT, WEEK)
    start.solve_start(network, batches, batches)
    rates = {name: getattr(one, "lr_scale") for name, one in network.named_parameters()}  # noqa: B009
    assert rates["cycle.fixed"] == rates["cycle.scaled"] == rate
    assert rates["linear.weight"] == start.SOLVED_RATE
    tables = network.get_parameter("cycle.fixed"), network.get_parameter("cycle.scaled")
    assert any(bool(table.any()) for table in tables) == (rate != 1)
