"""Tables as tensors, with scales, codes and calendar learnt from the training rows.

A :class:`Panel` holds every row of every series once, in one float32 tensor a role; windows
are cut from it (:mod:`titans_seq.forecasting.learning.windows`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from titans_seq.exceptions import DataError
from titans_seq.forecasting.tables.arrays import FloatArray, IntArray
from titans_seq.forecasting.tables.cycles import choose_cycles, count_slots, cycle_slots, row_by_row
from titans_seq.forecasting.tables.frames import ColumnRoles
from titans_seq.forecasting.tables.grid import TimeGrid
from titans_seq.forecasting.tables.table import Table


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """Series as tensors, one after another; a column count may be 0."""

    starts: Int[Tensor, "series+1"]
    """Row where each series begins, and at the end the number of rows."""

    target: Float[Tensor, "rows"]
    """On the scale of its series, 0 where missing."""

    seen: Bool[Tensor, "rows"]
    """False where the target is missing."""

    past: Float[Tensor, "rows past"]
    past_codes: Int[Tensor, "rows past_codes"]
    future: Float[Tensor, "rows future"]
    future_codes: Int[Tensor, "rows future_codes"]
    static: Float[Tensor, "series static"]
    static_codes: Int[Tensor, "series static_codes"]

    scales: FloatArray
    """Mean and deviation of each series, (series, 2), to undo the scale with."""


@dataclass(kw_only=True, slots=True)
class Preprocess:
    """Scales, categories and cycles learnt from the data; plain values only, for JSON."""

    freq: str | int
    """Frequency of the times."""

    ids: list[Any] = field(default_factory=list)
    """Series that were trained on; their codes count from 1."""

    scales: list[list[float]] = field(default_factory=list)
    """Mean and deviation of each of them over its training rows."""

    reals: dict[str, list[float]] = field(default_factory=dict)
    """Mean and deviation of each numeric covariate."""

    categories: dict[str, list[str]] = field(default_factory=dict)
    """Known values of each categorical covariate; their codes count from 1."""

    last: list[Any] = field(default_factory=list)
    """Time of the last row of each of them in ``fit``."""

    cycles: list[str] = field(default_factory=list)
    """Cycles of the calendar in use."""

    cycle_slots: list[int] = field(default_factory=list)
    """Categories of each of them."""

    @classmethod
    def learn(cls, table: Table, columns: ColumnRoles, train_rows: IntArray) -> Preprocess:
        """Learn scales, categories and cycles from the training rows.

        Parameters
        ----------
        table
            Checked series.
        columns
            Roles of the columns.
        train_rows
            How many rows of each series are for training, from its first on.

        Raises
        ------
        DataError
            If a series has no value of the target at all.
        """
        learnt = cls(freq=table.grid.freq, ids=list(table.ids))
        ends = zip(range(len(table.ids)), table.lengths(), strict=True)
        learnt.last = [_plain(table.times(code, rows - 1, rows)[0]) for code, rows in ends]
        learnt.scales = series_scales(table, train_rows).tolist()
        chosen = np.zeros(int(table.starts[-1]), dtype=bool)
        for start, rows in zip(table.starts, train_rows, strict=False):
            chosen[start : start + rows] = True
        covariates = {name: rows[chosen] for name, rows in table.varying.items()} | table.static
        for name in (*columns.covariates, *columns.static):
            values = covariates[name]
            if values.dtype == object:
                learnt.categories[name] = sorted({text for text in values if text is not None})
            else:
                learnt.reals[name] = list(_scale(values))
        longest = int(np.argmax(train_rows))
        learnt.cycles = list(
            choose_cycles(table.grid, table.first[longest], int(train_rows[longest]))
        )
        learnt.cycle_slots = [count_slots(name, table.grid) for name in learnt.cycles]
        return learnt

    def sizes(self, columns: ColumnRoles) -> dict[str, Any]:
        """Return how many covariates and categories of each role there are, for the network."""

        def reals(names: Sequence[str]) -> int:
            return sum(name in self.reals for name in names)

        def codes(names: Sequence[str]) -> tuple[int, ...]:
            return tuple(
                len(self.categories[name]) + 1 for name in names if name in self.categories
            )

        own = [row_by_row(name, TimeGrid(self.freq)) for name in self.cycles]
        known = codes(columns.future)
        return {
            "past_reals": reals(columns.past),
            "past_cardinalities": codes(columns.past),
            "future_reals": reals(columns.future),
            "future_cardinalities": known + tuple(slots + 1 for slots in self.cycle_slots),
            "cycle": len(known) + own.index(True) if any(own) else None,
            "static_reals": reals(columns.static),
            "static_cardinalities": (*codes(columns.static), len(self.ids) + 1),
        }

    def panel(
        self, table: Table, columns: ColumnRoles, scale_rows: IntArray | None = None
    ) -> Panel:
        """Turn a table into tensors; unknown series and categories get code 0.

        Parameters
        ----------
        table
            Checked series.
        columns
            Roles of the columns.
        scale_rows
            How many first rows of a series that was not trained on give its scale; None takes
            all.

        Raises
        ------
        DataError
            If a series that was not trained on has no value of the target.
        """
        known = {name: code for code, name in enumerate(self.ids)}
        codes = np.array([known.get(name, -1) for name in table.ids], dtype=np.int64)
        scales = np.array(self.scales).reshape(-1, 2)[codes]
        if (codes < 0).any():
            rows = table.lengths() if scale_rows is None else scale_rows
            scales[codes < 0] = series_scales(table, rows)[codes < 0]
        spread = np.repeat(scales, table.lengths(), axis=0)
        scaled = (table.target - spread[:, 0]) / spread[:, 1]
        calendar = self._calendar(table)
        return Panel(
            starts=torch.from_numpy(table.starts),
            target=_floats(np.nan_to_num(scaled)),
            seen=torch.from_numpy(~np.isnan(table.target)),
            past=self._reals(table.varying, columns.past, len(scaled)),
            past_codes=self._codes(table.varying, columns.past, [], len(scaled)),
            future=self._reals(table.varying, columns.future, len(scaled)),
            future_codes=self._codes(table.varying, columns.future, calendar, len(scaled)),
            static=self._reals(table.static, columns.static, len(codes)),
            static_codes=self._codes(table.static, columns.static, [codes + 1], len(codes)),
            scales=scales,
        )

    def _calendar(self, table: Table) -> list[IntArray]:
        """Return the codes of each cycle, over all rows."""
        if not self.cycles:
            return []
        grid = TimeGrid(self.freq)
        times = [table.times(row, 0, int(count)) for row, count in enumerate(table.lengths())]
        return [
            np.concatenate([cycle_slots(name, own, grid) for own in times]) + 1
            for name in self.cycles
        ]

    def _reals(
        self, values: dict[str, npt.NDArray[Any]], names: Sequence[str], rows: int
    ) -> Float[Tensor, "rows reals"]:
        """Return the numeric ones of ``names``, scaled; a missing value is the mean."""
        scaled = [
            np.nan_to_num((values[name] - self.reals[name][0]) / self.reals[name][1])
            for name in names
            if name in self.reals
        ]
        return _floats(np.stack(scaled, axis=1) if scaled else np.zeros((rows, 0)))

    def _codes(
        self,
        values: dict[str, npt.NDArray[Any]],
        names: Sequence[str],
        further: list[IntArray],
        rows: int,
    ) -> Int[Tensor, "rows codes"]:
        """Return the codes of the categorical ones of ``names``, and then ``further``."""
        columns = []
        for name in names:
            if name in self.categories:
                codes = {text: code for code, text in enumerate(self.categories[name], start=1)}
                columns.append(np.array([codes.get(text, 0) for text in values[name]], np.int64))
        columns += further
        stacked = np.stack(columns, axis=1) if columns else np.zeros((rows, 0), np.int64)
        return torch.from_numpy(stacked.astype(np.int64))


def without_cycles(
    learnt: Preprocess, panel: Panel, dropped: Collection[int]
) -> tuple[Preprocess, Panel]:
    """Return the preprocessing and its panel without some of the cycles.

    Parameters
    ----------
    learnt, panel
        The panel made by ``learnt``.
    dropped
        Numbers of the cycles among ``learnt.cycles``.
    """
    kept = [number for number in range(len(learnt.cycles)) if number not in dropped]
    others = panel.future_codes.shape[1] - len(learnt.cycles)
    columns = [*range(others), *(others + number for number in kept)]
    fewer = replace(
        learnt,
        cycles=[learnt.cycles[number] for number in kept],
        cycle_slots=[learnt.cycle_slots[number] for number in kept],
    )
    return fewer, replace(panel, future_codes=panel.future_codes[:, columns])


def series_scales(table: Table, train_rows: IntArray) -> FloatArray:
    """Return mean and deviation of each series over its training rows, (series, 2).

    A series without a value in its training rows is scaled by all its rows.

    Raises
    ------
    DataError
        If a series has no value at all.
    """
    scales = np.empty((len(table.ids), 2))
    for series, name in enumerate(table.ids):
        start, end = table.starts[series], table.starts[series + 1]
        values = table.target[start : start + train_rows[series]]
        if np.isnan(values).all():
            values = table.target[start:end]
        if np.isnan(values).all():
            raise DataError(f"series {name!r} has no value in the target column, in any row")
        scales[series] = _scale(values)
    return scales


def _scale(values: FloatArray) -> tuple[float, float]:
    """Return mean and population deviation without NaN; 0 and 1 if there are no values."""
    known = values[~np.isnan(values)]
    if len(known) == 0:
        return 0.0, 1.0
    deviation = float(known.std())
    # A constant series is not scaled by its rounding errors.
    smallest = 1e-10 * max(float(np.abs(known).max()), 1e-290)
    return float(known.mean()), deviation if deviation > smallest else 1.0


def _floats(values: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _plain(time: Any) -> Any:
    """Return a time as a text or number for JSON."""
    return time.isoformat() if hasattr(time, "isoformat") else int(time)
