"""Rolling origins: forecast again and again from later and later rows, as one would have."""

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
from titans_seq.forecasting.scores.backtest import NAIVE, OURS, SCORED_LEVELS, Backtest, collect
from titans_seq.forecasting.scores.seasons import SeasonalNaive, season_of
from titans_seq.forecasting.tables.arrays import IntArray
from titans_seq.forecasting.tables.frames import ColumnRoles
from titans_seq.forecasting.tables.table import Table

_logger = logging.getLogger(__name__)

Refit = Callable[[Table], Predictor]
"""Trains anew on the rows of a table."""


class Origins(NamedTuple):
    """From where forecasts are made, series after series in time order."""

    series: IntArray
    """Code of the series of each window."""

    cutoffs: IntArray
    """Row of the series where the horizon begins."""

    turn: IntArray
    """Which origin it is, from 0; the last one is the same for every series."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BacktestPlan:
    """How a backtest is run."""

    windows: int
    """Origins of each series, at most."""

    step: int
    """IntArray from one origin to the next."""

    season: int | None = None
    """Rows of the naive forecast's season; None takes the usual one of the frequency."""

    levels: tuple[float, ...] = (80, 95)
    """Intervals in percent."""

    refit: bool | str = False
    """Whether to train anew before every origin, or ``once`` before the first."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run.

        Raises
        ------
        ConfigError
            If a number is below 1, a level is none, or ``refit`` unknown.
        """
        for name in ("windows", "step", "season"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}={value}: must be at least 1")
        if self.refit not in (False, True, "once"):
            raise ConfigError(f"refit={self.refit!r}: choose False, True or 'once'")
        QuantileRequest.of(None, self.levels, ())


def run_backtest(
    table: Table,
    columns: ColumnRoles,
    horizon: int,
    plan: BacktestPlan,
    predictor: Predictor | Refit,
) -> Backtest:
    """Forecast from every origin, and score it.

    Parameters
    ----------
    table
        Series to their ends, covariates known ahead included.
    columns, horizon
        Those of the forecaster.
    plan
        How many origins, where, and what is scored.
    predictor
        A trained one, or what trains one if the plan says so.

    Raises
    ------
    DataError
        If no series is long enough.
    """
    origins = choose_origins(table, horizon, plan)
    levels = (*SCORED_LEVELS, *(one for one in QuantileRequest((), plan.levels).all()))
    if isinstance(predictor, Predictor):
        seen = _seen(table, origins, predictor)
        found = _forecast(predictor, table, origins, levels)
    else:
        seen = 0
        found = _refit(predictor, table, origins, levels, every=plan.refit is True)
    if seen:
        _logger.warning(
            "backtest: %d of %d windows lie in rows that the forecaster was trained on, so their "
            "errors are too low; refit='once' trains on the rows before the first window",
            seen,
            len(origins.series),
        )
    return _collected(table, columns, plan, origins, found, levels, seen)


def choose_origins(table: Table, horizon: int, plan: BacktestPlan) -> Origins:
    """Return the origins: the last horizon ends with the series, the others a step before.

    Raises
    ------
    DataError
        If no series has a row before a whole horizon.
    """
    series, cutoffs, turns = [], [], []
    for code, rows in enumerate(table.lengths()):
        start = int(table.starts[code])
        known = np.flatnonzero(~np.isnan(table.target[start : start + int(rows)]))
        for turn in range(plan.windows):
            cutoff = int(rows) - horizon - (plan.windows - 1 - turn) * plan.step
            if cutoff < 1 or not len(known) or known[0] >= cutoff:
                continue
            series.append(code)
            cutoffs.append(cutoff)
            turns.append(turn)
    if not series:
        raise DataError(
            f"no window to test: the longest series has {int(table.lengths().max())} rows, and "
            f"horizon={horizon} needs at least {horizon + 1}, the first of them with a value"
        )
    return Origins(*(np.asarray(part, dtype=np.int64) for part in (series, cutoffs, turns)))


def truncate_table(table: Table, ends: IntArray) -> Table:
    """Return the first ``ends`` rows of each series; one without a row is left out."""
    rows = np.arange(int(table.starts[-1])) - np.repeat(table.starts[:-1], table.lengths())
    kept = rows < np.repeat(ends, table.lengths())
    some = np.flatnonzero(ends > 0)
    return replace(
        table,
        ids=[table.ids[code] for code in some],
        keys=[table.keys[code] for code in some],
        first=[table.first[code] for code in some],
        starts=np.concatenate([[0], np.cumsum(np.minimum(ends, table.lengths())[some])]),
        present=table.present[kept],
        target=table.target[kept],
        varying={name: held[kept] for name, held in table.varying.items()},
        static={name: held[some] for name, held in table.static.items()},
    )


def _forecast(
    predictor: Predictor, table: Table, origins: Origins, levels: tuple[float, ...]
) -> WindowForecasts:
    """Forecast from every origin."""
    cutoffs = origins.cutoffs + table.starts[origins.series]
    index = WindowIndex(torch.from_numpy(origins.series), torch.from_numpy(cutoffs))
    return predictor.at(table, index, levels)


def _refit(
    refit: Refit, table: Table, origins: Origins, levels: tuple[float, ...], *, every: bool
) -> WindowForecasts:
    """Train before each origin, or before the first; return forecasts in the origins' order."""
    turns = np.unique(origins.turn)
    parts, places = [], []
    for turn in turns if every else turns[:1]:
        begins = table.lengths()
        due = origins.turn >= turn
        np.minimum.at(begins, origins.series[due], origins.cutoffs[due])
        now = np.flatnonzero(origins.turn == turn) if every else np.arange(len(origins.turn))
        chosen = Origins(*(part[now] for part in origins))
        parts.append(_forecast(refit(truncate_table(table, begins)), table, chosen, levels))
        places.append(now)
    order = np.argsort(np.concatenate(places))
    return WindowForecasts(*(np.concatenate(held)[order] for held in zip(*parts, strict=True)))


def _seen(table: Table, origins: Origins, predictor: Predictor) -> int:
    """Return how many windows have rows that the network was trained on."""
    learnt = dict(zip(predictor.preprocess.ids, predictor.preprocess.last, strict=False))
    until = np.zeros(len(table.ids), dtype=np.int64)
    for code, name in enumerate(table.ids):
        if name in learnt:
            until[code] = table.grid.rows_until(table.first[code], learnt[name])
    return int((origins.cutoffs < until[origins.series]).sum())


def _collected(
    table: Table,
    columns: ColumnRoles,
    plan: BacktestPlan,
    origins: Origins,
    found: WindowForecasts,
    levels: tuple[float, ...],
    seen: int,
) -> Backtest:
    """Set our forecasts and the naive ones beside what came."""
    season = season_of(table.grid) if plan.season is None else plan.season
    horizon = found.point.shape[1]
    naive, spread = np.empty_like(found.point), np.empty_like(found.quantiles)
    scale, times = np.empty(len(origins.series)), []
    for code in np.unique(origins.series):
        own = origins.series == code
        values = table.target[table.starts[code] : table.starts[code + 1]]
        control = SeasonalNaive.learn(values[: origins.cutoffs[own].min()], season)
        naive[own] = control.point(values, origins.cutoffs[own], horizon)
        spread[own] = control.quantiles(naive[own], levels)
        scale[own] = control.scale
        whole = table.times(int(code), 0, len(values))
        times += [whole[begin : begin + horizon] for begin in origins.cutoffs[own]]
    known = np.isfinite(found.actual)
    if not known.any():
        raise DataError("no window to test: the target is missing in every one of them")
    name = time_name(columns)
    index = pd.DataFrame(
        {
            columns.id: np.repeat(found.ids, horizon),
            "cutoff": pd.Index(list(found.cutoffs)).repeat(horizon),
            name: joined_times(times),
            "step": np.tile(np.arange(1, horizon + 1), len(found.ids)),
        }
    )
    flat = known.reshape(-1)
    wanted = {level: QuantileRequest((), (level,)).all() for level in plan.levels}
    behind = levels[len(SCORED_LEVELS) :]
    return collect(
        index[flat].reset_index(drop=True),
        {"y": found.actual[known], OURS: found.point[known], NAIVE: naive[known]},
        {OURS: found.quantiles[known], NAIVE: spread[known]},
        np.repeat(scale, horizon)[flat],
        bounds={
            level: (
                len(SCORED_LEVELS) + behind.index(low),
                len(SCORED_LEVELS) + behind.index(high),
            )
            for level, (low, high) in wanted.items()
        },
        columns=columns,
        season=season,
        seen_windows=seen,
    )
