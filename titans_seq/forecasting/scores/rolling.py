"""Backtests with rolling origins: forecast from later and later rows of the past."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from titans_seq.exceptions import ConfigError, DataError
from titans_seq.forecasting.learning.windows import WindowIndex
from titans_seq.forecasting.predicting.distribution import QuantileRequest
from titans_seq.forecasting.predicting.predictor import Predictor
from titans_seq.forecasting.predicting.results import WindowForecasts, joined_times, time_name
from titans_seq.forecasting.scores.backtest import (
    NAIVE,
    OURS,
    SCORED_LEVELS,
    Backtest,
    value_errors,
)
from titans_seq.forecasting.scores.seasons import SeasonalNaive, season_of
from titans_seq.forecasting.tables.arrays import FloatArray, IntArray
from titans_seq.forecasting.tables.frames import ColumnRoles
from titans_seq.forecasting.tables.table import Table

_logger = logging.getLogger(__name__)

TrainPredictor = Callable[[Table], Predictor]
"""Trains a new forecaster on the rows of a table."""


class Origins(NamedTuple):
    """Where the horizons of a backtest begin, series after series in time order."""

    series: IntArray
    """Code of the series of each window."""

    cutoffs: IntArray
    """Row of the series where the horizon begins."""

    number: IntArray
    """Which origin of its series it is, from 0; the last one is the same for every series."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BacktestPlan:
    """Settings of a backtest."""

    windows: int
    """Origins of each series, at most."""

    step: int
    """Rows from one origin to the next."""

    season: int | None = None
    """Rows of the naive forecast's season; None takes the usual one of the frequency."""

    levels: tuple[float, ...] = (80, 95)
    """Intervals in percent."""

    refit: bool | str = False
    """Whether to train anew before every origin, or ``once`` before the first."""

    def __post_init__(self) -> None:
        """Refuse settings out of range.

        Raises
        ------
        ConfigError
            If a number is below 1, a level is not between 0 and 100, or ``refit`` is unknown.
        """
        for name in ("windows", "step", "season"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if self.refit not in (False, True, "once"):
            raise ConfigError(f"refit must be False, True or 'once', got {self.refit!r}")
        QuantileRequest.of(None, self.levels, ())


def run_backtest(
    table: Table,
    columns: ColumnRoles,
    horizon: int,
    plan: BacktestPlan,
    predictor: Predictor | TrainPredictor,
) -> Backtest:
    """Forecast from every origin, and score the forecasts beside seasonal naive.

    Parameters
    ----------
    table
        Series to their ends, covariates known ahead included.
    columns, horizon
        Those of the forecaster.
    plan
        How many origins, where, and what is scored.
    predictor
        A trained one, or a function that trains one if the plan asks for it.

    Raises
    ------
    DataError
        If no series is long enough.
    """
    origins = choose_origins(table, horizon, plan)
    levels = (*SCORED_LEVELS, *QuantileRequest((), plan.levels).all())
    if isinstance(predictor, Predictor):
        seen = _count_seen(table, origins, predictor)
        forecasts = _forecast(predictor, table, origins, levels)
    else:
        seen = 0
        forecasts = _refit(predictor, table, origins, levels, every=plan.refit is True)
    if seen:
        _logger.warning(
            "backtest: %d of %d windows lie in rows that the forecaster was trained on, so their "
            "errors are too low; refit='once' trains on the rows before the first window",
            seen,
            len(origins.series),
        )
    return _score(table, columns, plan, origins, forecasts, levels, seen)


def choose_origins(table: Table, horizon: int, plan: BacktestPlan) -> Origins:
    """Return the origins: the last horizon ends with the series, the others a step before.

    Raises
    ------
    DataError
        If no series has a row before a whole horizon.
    """
    windows = []
    for code, rows in enumerate(table.lengths().tolist()):
        start = int(table.starts[code])
        known = np.flatnonzero(~np.isnan(table.target[start : start + rows]))
        for number in range(plan.windows):
            cutoff = rows - horizon - (plan.windows - 1 - number) * plan.step
            if cutoff >= 1 and len(known) and known[0] < cutoff:
                windows.append((code, cutoff, number))
    if not windows:
        raise DataError(
            f"no window to test: the longest series has {int(table.lengths().max())} rows, and "
            f"horizon={horizon} needs at least {horizon + 1}, the first of them with a value"
        )
    return Origins(*np.asarray(windows, dtype=np.int64).T)


def truncate_table(table: Table, ends: IntArray) -> Table:
    """Return the first ``ends`` rows of each series; a series left without rows is dropped."""
    rows = np.arange(int(table.starts[-1])) - np.repeat(table.starts[:-1], table.lengths())
    kept = rows < np.repeat(ends, table.lengths())
    series = np.flatnonzero(ends > 0)
    return replace(
        table,
        ids=[table.ids[code] for code in series],
        keys=[table.keys[code] for code in series],
        first=[table.first[code] for code in series],
        starts=np.concatenate([[0], np.cumsum(np.minimum(ends, table.lengths())[series])]),
        present=table.present[kept],
        target=table.target[kept],
        varying={name: values[kept] for name, values in table.varying.items()},
        static={name: values[series] for name, values in table.static.items()},
    )


def _forecast(
    predictor: Predictor, table: Table, origins: Origins, levels: tuple[float, ...]
) -> WindowForecasts:
    """Forecast from every origin."""
    cutoffs = origins.cutoffs + table.starts[origins.series]
    index = WindowIndex(torch.from_numpy(origins.series), torch.from_numpy(cutoffs))
    return predictor.at(table, index, levels)


def _refit(
    train: TrainPredictor,
    table: Table,
    origins: Origins,
    levels: tuple[float, ...],
    *,
    every: bool,
) -> WindowForecasts:
    """Train before each origin, or before the first; return forecasts in the origins' order."""
    numbers = np.unique(origins.number)
    forecasts, windows = [], []
    for number in numbers if every else numbers[:1]:
        # Train on the rows of each series before its first origin that is still to come.
        ends = table.lengths()
        due = origins.number >= number
        np.minimum.at(ends, origins.series[due], origins.cutoffs[due])
        predictor = train(truncate_table(table, ends))
        now = np.flatnonzero(origins.number == number) if every else np.arange(len(due))
        chosen = Origins(*(field[now] for field in origins))
        forecasts.append(_forecast(predictor, table, chosen, levels))
        windows.append(now)
    order = np.argsort(np.concatenate(windows))
    return WindowForecasts(
        *(np.concatenate(parts)[order] for parts in zip(*forecasts, strict=True))
    )


def _count_seen(table: Table, origins: Origins, predictor: Predictor) -> int:
    """Return how many windows have rows that the network was trained on."""
    last = dict(zip(predictor.preprocess.ids, predictor.preprocess.last, strict=False))
    trained = np.zeros(len(table.ids), dtype=np.int64)
    for code, name in enumerate(table.ids):
        if name in last:
            trained[code] = table.grid.rows_until(table.first[code], last[name])
    return int((origins.cutoffs < trained[origins.series]).sum())


class _Naive(NamedTuple):
    """Seasonal naive forecasts of the windows of a backtest."""

    season: int
    point: FloatArray
    quantiles: FloatArray

    scale: FloatArray
    """Unit of MASE of each window, (windows,)."""


def _forecast_naive(
    table: Table, plan: BacktestPlan, origins: Origins, levels: tuple[float, ...], horizon: int
) -> _Naive:
    """Forecast every window with the seasonal naive of its series' rows before the first origin."""
    season = season_of(table.grid) if plan.season is None else plan.season
    windows = len(origins.series)
    point, scale = np.empty((windows, horizon)), np.empty(windows)
    quantiles = np.empty((windows, horizon, len(levels)))
    for code in np.unique(origins.series):
        own = origins.series == code
        values = table.target[table.starts[code] : table.starts[code + 1]]
        naive = SeasonalNaive.learn(values[: origins.cutoffs[own].min()], season)
        point[own] = naive.point(values, origins.cutoffs[own], horizon)
        quantiles[own] = naive.quantiles(point[own], levels)
        scale[own] = naive.scale
    return _Naive(season, point, quantiles, scale)


def _score(
    table: Table,
    columns: ColumnRoles,
    plan: BacktestPlan,
    origins: Origins,
    ours: WindowForecasts,
    levels: tuple[float, ...],
    seen: int,
) -> Backtest:
    """Put our forecasts and the naive ones beside the actual values, and score both."""
    horizon = ours.point.shape[1]
    naive = _forecast_naive(table, plan, origins, levels, horizon)
    known = np.isfinite(ours.actual)
    if not known.any():
        raise DataError("no window to test: the target is missing in every one of them")
    keys = _window_keys(table, columns, origins, ours)[known.reshape(-1)].reset_index(drop=True)
    actual, scale = ours.actual[known], np.repeat(naive.scale, horizon)[known.reshape(-1)]
    models = {OURS: (ours.point, ours.quantiles), NAIVE: (naive.point, naive.quantiles)}
    forecasts = keys.assign(y=actual, y_pred=ours.point[known])
    tables = []
    for model, (point, all_quantiles) in models.items():
        quantiles = all_quantiles[known]
        errors = value_errors(actual, point[known], quantiles, scale)
        for level in plan.levels:
            # The levels that bound intervals stand behind those that are scored.
            low, high = (
                quantiles[:, len(SCORED_LEVELS) + levels[len(SCORED_LEVELS) :].index(bound)]
                for bound in QuantileRequest((), (level,)).all()
            )
            errors[f"coverage-{level:g}"] = ((low <= actual) & (actual <= high)).astype(float)
            if model == OURS:
                forecasts[f"y_pred-lo-{level:g}"] = low
                forecasts[f"y_pred-hi-{level:g}"] = high
        tables.append(keys[[columns.id, "cutoff", "step"]].assign(model=model, **errors))
    return Backtest(
        forecasts=forecasts.assign(naive=naive.point[known]),
        season=naive.season,
        levels=plan.levels,
        seen_windows=seen,
        errors=pd.concat(tables, ignore_index=True),
        id_col=columns.id,
        time_col=time_name(columns),
    )


def _window_keys(
    table: Table, columns: ColumnRoles, origins: Origins, forecasts: WindowForecasts
) -> pd.DataFrame:
    """Return id, cutoff, time and step of every window and step."""
    horizon = forecasts.point.shape[1]
    times = []
    for code in np.unique(origins.series):
        all_times = table.times(int(code), 0, int(table.lengths()[code]))
        cutoffs = origins.cutoffs[origins.series == code]
        times += [all_times[cutoff : cutoff + horizon] for cutoff in cutoffs]
    return pd.DataFrame(
        {
            columns.id: np.repeat(forecasts.ids, horizon),
            "cutoff": pd.Index(list(forecasts.cutoffs)).repeat(horizon),
            time_name(columns): joined_times(times),
            "step": np.tile(np.arange(1, horizon + 1), len(forecasts.ids)),
        }
    )
