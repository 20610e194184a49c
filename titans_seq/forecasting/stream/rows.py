"""Rows of several series side by side, and the phase (slot) of each row in its calendar cycles.

:class:`StreamRows` is what the memories read: a batch of series, aligned at their first row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from titans_seq.forecasting.tables.panel import Panel, Preprocess

ROWS_AT_ONCE = 2_048
"""Rows, summed over series, that one call reads: bounds the working memory."""

MAX_DEVIATION = 1e6
"""Bound on values, in standard deviations of their series."""

_DAY, _WEEK = "time_of_day", "day_of_week"
"""Calendar cycles that together give the hours of a week."""


class StreamRows(NamedTuple):
    """Rows of several series, aligned left; rows after the end of a series are not ``real``."""

    value: Float[Tensor, "series rows"]
    """Target on the scale of its series, 0 where it is missing."""

    seen: Bool[Tensor, "series rows"]
    """False where the target is missing."""

    real: Bool[Tensor, "series rows"]
    """False before the first and after the last row of a series."""

    past: Float[Tensor, "series rows past"]
    past_codes: Int[Tensor, "series rows past_codes"]
    future: Float[Tensor, "series rows future"]
    future_codes: Int[Tensor, "series rows future_codes"]
    slots: Int[Tensor, "series rows tables"]
    """Slot of the row in each table of the phase memory."""

    def span(self, begin: int, end: int) -> StreamRows:
        """Return rows ``begin`` to ``end`` of every series."""
        return StreamRows(*(field[:, begin:end] for field in self))

    def gather(self, index: Int[Tensor, "series chosen"]) -> StreamRows:
        """Return rows by an index of their own for each series."""
        series = torch.arange(len(index))[:, None]
        return StreamRows(*(field[series, index] for field in self))

    def concat(self, following: StreamRows) -> StreamRows:
        """Return these rows with ``following`` appended in time."""
        return StreamRows(*(torch.cat(pair, dim=1) for pair in zip(self, following, strict=True)))

    def series(self, index: Tensor) -> StreamRows:
        """Return all rows of some series."""
        return StreamRows(*(field[index] for field in self))

    def horizons(
        self, count: int, horizon: int
    ) -> tuple[Bool[Tensor, "series count horizon"], Float[Tensor, "series count horizon"]]:
        """Return ``seen`` and ``value`` of the ``horizon`` rows up to each of the last ``count``.

        These are the observations that a forecast made ``horizon`` rows before is scored by.
        """
        seen = self.seen.unfold(1, horizon, 1)[:, -count:]
        return seen, self.value.unfold(1, horizon, 1)[:, -count:]


def rows_of_panel(
    panel: Panel, preprocess: Preprocess, begins: Sequence[int], ends: Sequence[int]
) -> StreamRows:
    """Return rows ``begins`` to ``ends`` of each series, aligned left.

    Parameters
    ----------
    panel
        Series.
    preprocess
        Calendar cycles in use.
    begins, ends
        Rows of the panel, one pair a series.
    """
    width = max(end - begin for begin, end in zip(begins, ends, strict=True))
    first, last = torch.tensor(begins)[:, None], torch.tensor(ends)[:, None]
    index = first + torch.arange(width)
    real = index < last
    index = torch.minimum(index, (last - 1).clamp(min=0))  # padding repeats the last row
    seen = panel.seen[index] & real
    return StreamRows(
        value=panel.target[index].clamp(-MAX_DEVIATION, MAX_DEVIATION) * seen,
        seen=seen,
        real=real,
        past=panel.past[index],
        past_codes=panel.past_codes[index],
        future=panel.future[index],
        future_codes=panel.future_codes[index],
        slots=calendar_slots(preprocess, panel.future_codes)[index],
    )


def calendar_tables(preprocess: Preprocess) -> tuple[int, ...]:
    """Return the slots of each phase table: a day and a week, or the only calendar cycle."""
    slots = dict(zip(preprocess.cycles, preprocess.cycle_slots, strict=True))
    if _DAY in slots:
        return (slots[_DAY], slots[_DAY] * slots[_WEEK]) if _WEEK in slots else (slots[_DAY],)
    return tuple(slots.values())[:1]


def calendar_slots(
    preprocess: Preprocess, codes: Int[Tensor, "rows codes"]
) -> Int[Tensor, "rows tables"]:
    """Return the slot of each row in every phase table.

    Parameters
    ----------
    preprocess
        Calendar cycles in use.
    codes
        Categories known ahead; the last columns are the cycles, counted from 1.
    """
    cycles = codes[:, codes.shape[1] - len(preprocess.cycles) :].clamp(min=1) - 1
    phases = {name: cycles[:, column] for column, name in enumerate(preprocess.cycles)}
    sizes = calendar_tables(preprocess)
    if _DAY in phases and len(sizes) == 2:
        day = phases[_DAY]
        return torch.stack([day, phases[_WEEK] * sizes[0] + day], dim=1)
    return torch.stack(list(phases.values())[:1], dim=1) if phases else codes[:, :0]


def slots_with_horizon(
    rows: StreamRows, ahead: Int[Tensor, "series horizon tables"]
) -> Int[Tensor, "series rows+horizon tables"]:
    """Return the slots of rows, with those of the horizon right after each series' last row."""
    horizon = ahead.shape[1]
    slots = torch.cat([rows.slots, ahead], dim=1)
    index = rows.real.sum(1, keepdim=True) + torch.arange(horizon)
    slots[torch.arange(len(slots))[:, None], index] = ahead
    return slots
