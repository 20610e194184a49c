"""A linear map for each series: what it makes of the values, and what it is solved from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from titans_seq.exceptions import ConfigError
from titans_seq.forecasting import TitansForecaster
from titans_seq.forecasting.learning import fitting
from titans_seq.forecasting.learning.closed_form import per_series_ridge
from titans_seq.forecasting.learning.windows import WindowBatch
from titans_seq.forecasting.network.config import NetworkConfig
from titans_seq.forecasting.network.network import ForecastNetwork, Windows
from titans_seq.forecasting.network.series_maps import SeriesMaps

CONTEXT, HORIZON, SERIES = 6, 3, 4


def _network() -> ForecastNetwork:
    torch.manual_seed(0)
    return ForecastNetwork(
        NetworkConfig(
            context_length=CONTEXT, horizon=HORIZON, dim=8, heads=2, series_maps=True,
            static_cardinalities=(SERIES,),
        )
    ).eval()  # fmt: skip


def _batch(maps: Tensor, noise: float, seed: int, count: int = 900) -> WindowBatch:
    """Return windows of all series in turn, each of which follows a map of its own."""
    source = torch.Generator().manual_seed(seed)
    history = torch.randn(count, CONTEXT, generator=source)
    code = 1 + torch.arange(count) % (SERIES - 1)
    centre = history.mean(1, keepdim=True)
    target = centre + torch.einsum("bhc,bc->bh", maps[code], history - centre)
    target = target + noise * torch.randn(count, HORIZON, generator=source)
    none, rows = torch.zeros(count, CONTEXT, 0), torch.zeros(count, CONTEXT + HORIZON, 0)
    windows = Windows(
        history, torch.ones(count, CONTEXT, dtype=torch.bool), none, none.long(),
        rows, rows.long(), torch.zeros(count, 0), code[:, None],
    )  # fmt: skip
    return WindowBatch(windows, target, torch.ones_like(target, dtype=torch.bool))


def _squares(network: ForecastNetwork, batch: WindowBatch) -> Tensor:
    """Return the squared error of each series."""
    missed = (network.baseline(batch.windows).expected() - batch.target).double().square().sum(1)
    return torch.zeros(SERIES).double().index_add_(0, batch.windows.static_codes[:, 0], missed)


def test_each_window_goes_through_the_map_of_its_series() -> None:
    maps = SeriesMaps(SERIES, CONTEXT, HORIZON).double()
    maps.weight.normal_()
    values = torch.randn(50, CONTEXT, dtype=torch.double, requires_grad=True)
    series = torch.randint(SERIES, (50,))
    expected = torch.stack(
        [maps.weight[code] @ row for code, row in zip(series, values, strict=True)]
    )
    found = maps(values, series)
    torch.testing.assert_close(found, expected)
    upstream = torch.randn_like(expected)
    (slope,) = torch.autograd.grad(found, values, upstream)
    torch.testing.assert_close(slope, torch.autograd.grad(expected, values, upstream)[0])
    assert maps(values[:0], series[:0]).shape == (0, HORIZON)
    assert not list(maps.parameters())  # nothing of it is learnt


@torch.no_grad()
def test_a_fold_is_scored_with_the_maps_that_the_others_give() -> None:
    network = _network()
    network.linear.weight.normal_()
    weights = torch.randn(SERIES, HORIZON, CONTEXT)
    early, late = _batch(weights, 0.5, 0), _batch(weights, 0.5, 1)
    folds = [(early, torch.full((900,), 1)), (late, torch.full((900,), 4))]
    sums = per_series_ridge._residual_sums(network, folds)
    before = _squares(network, late)
    for series in range(1, SERIES):
        fold = sums.group((slice(None), series))
        others = fold.leave_one_out()
        assert fold.rows.tolist() == [0, 300, 0, 0, 300]
        changed = fold.change_in_error(others.solve(0.1))[4]
        assert network.series_maps is not None
        network.series_maps.weight[series] = others.solve(0.1)[4].T
        expected = _squares(network, late)[series] - before[series]
        torch.testing.assert_close(changed, expected, rtol=1e-4, atol=1e-3)


@torch.no_grad()
def test_maps_are_those_of_least_squares_over_all_windows() -> None:
    network = _network()
    weights = torch.randn(SERIES, HORIZON, CONTEXT)
    batches = [_batch(weights, 0.1, seed) for seed in range(5)]
    per_series_ridge.solve_series_maps(
        network, [(one, torch.full((900,), fold)) for fold, one in enumerate(batches)]
    )
    assert network.series_maps is not None
    for series in range(1, SERIES):
        look_back, lacks = [], []
        for batch in batches:
            own = batch.windows.static_codes[:, 0] == series
            history = batch.windows.history[own]
            centre = history.mean(1, keepdim=True)
            look_back.append((history - centre).double())
            plain = network.linear.weight @ (history - centre).T
            lacks.append((batch.target[own] - centre - plain.T).double())
        rows, gap = torch.cat(look_back), torch.cat(lacks)
        square = rows.T @ rows
        penalty = per_series_ridge._PENALTIES[0]
        ridge = penalty * square.diagonal().mean() * torch.eye(CONTEXT).double()
        expected = torch.linalg.solve(square + ridge, rows.T @ gap).T
        found = network.series_maps.weight[series].double()
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert not network.series_maps.weight[0].any()


@torch.no_grad()
def test_a_series_without_a_map_of_its_own_has_that_of_all() -> None:
    """What is left is noise, so that any map is worse in the next fold."""
    network = _network()
    shared = network.linear.weight.expand(SERIES, -1, -1).clone()
    shared[2] += torch.randn(HORIZON, CONTEXT)
    batches = [(_batch(shared, 0.5, fold), torch.full((900,), fold)) for fold in range(5)]
    spoilt = _batch(shared, 0.5, 9)
    gaps = spoilt._replace(target=spoilt.target + 9, target_seen=torch.rand(900, HORIZON) < 0)
    ignored = (spoilt._replace(target=spoilt.target + 9), torch.full((900,), -1))
    per_series_ridge.solve_series_maps(
        network, [*batches, ignored, (gaps, torch.zeros(900).long())]
    )
    assert network.series_maps is not None
    sizes = network.series_maps.weight.square().sum((1, 2))
    assert sizes[2] > 1
    assert sizes[[0, 1, 3]].max() < 0.01 * sizes[2]


def _frame(names: str) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.concat(
        pd.DataFrame({"unique_id": name, "ds": np.arange(200), "y": rng.normal(size=200).cumsum()})
        for name in names
    )


@pytest.mark.slow
def test_forecasters_of_several_series_have_maps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = {"horizon": 3, "context_length": 8, "max_epochs": 1, "dim": 8, "random_state": 0}
    forecaster = TitansForecaster(**settings).fit(_frame("ab"))
    assert forecaster.network_.series_maps is not None
    forecaster.network_.series_maps.weight[1] = 0.5
    forecaster.save(tmp_path / "model")
    found = TitansForecaster.load(tmp_path / "model").predict(_frame("ab"))
    pd.testing.assert_frame_equal(found, forecaster.predict(_frame("ab")))
    assert TitansForecaster(**settings).fit(_frame("a")).network_.series_maps is None
    monkeypatch.setattr(fitting, "MOST_MAP_SUMS", 2 * 8 * 11 - 1)
    assert TitansForecaster(**settings).fit(_frame("ab")).network_.series_maps is None


def test_maps_need_series() -> None:
    with pytest.raises(ConfigError, match="needs a static category"):
        NetworkConfig(context_length=8, horizon=3, series_maps=True)
