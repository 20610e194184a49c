"""From a panel to rows side by side, and which slots of the calendar a row belongs to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from titans_seq.forecasting.stream.state import Rows
from titans_seq.forecasting.tables.panel import Panel, Preprocess

LARGEST = 1e6
"""Deviations of its series that a value can be away; anything further counts as this."""

DAY, WEEK = "time_of_day", "day_of_week"
"""Cycles that together make the hours of a week."""


def table_sizes(learnt: Preprocess) -> tuple[int, ...]:
    """Return the slots of each table: the day and the week, or the one cycle that there is."""
    slots = dict(zip(learnt.cycles, learnt.cycle_slots, strict=True))
    if DAY in slots:
        return (slots[DAY], slots[DAY] * slots[WEEK]) if WEEK in slots else (slots[DAY],)
    return tuple(slots.values())[:1]


def table_slots(learnt: Preprocess, codes: Int[Tensor, "rows codes"]) -> Int[Tensor, "rows tables"]:
    """Return the slot of each row in every table.

    Parameters
    ----------
    learnt
        Cycles in use.
    codes
        Categories known ahead; those of the cycles stand last, counted from 1.
    """
    cycles = codes[:, codes.shape[1] - len(learnt.cycles) :].clamp(min=1) - 1
    places = {name: cycles[:, number] for number, name in enumerate(learnt.cycles)}
    sizes = table_sizes(learnt)
    if DAY in places and len(sizes) == 2:
        day = places[DAY]
        return torch.stack([day, places[WEEK] * sizes[0] + day], dim=1)
    return torch.stack(list(places.values())[:1], dim=1) if places else codes[:, :0]


def side_by_side(
    panel: Panel, learnt: Preprocess, begins: Sequence[int], ends: Sequence[int]
) -> Rows:
    """Return rows ``begins`` to ``ends`` of each series, each from the left.

    Parameters
    ----------
    panel
        Series.
    learnt
        Cycles in use.
    begins, ends
        Rows of the panel, one a series.
    """
    width = max(end - begin for begin, end in zip(begins, ends, strict=True))
    first, last = torch.tensor(begins)[:, None], torch.tensor(ends)[:, None]
    places = first + torch.arange(width)
    real = places < last
    places = torch.minimum(places, (last - 1).clamp(min=0))
    seen = panel.seen[places] & real
    return Rows(
        value=panel.target[places].clamp(-LARGEST, LARGEST) * seen,
        seen=seen,
        real=real,
        past=panel.past[places],
        past_codes=panel.past_codes[places],
        future=panel.future[places],
        future_codes=panel.future_codes[places],
        slots=table_slots(learnt, panel.future_codes)[places],
    )


def slots_onward(
    rows: Rows, ahead: Int[Tensor, "series horizon tables"]
) -> Int[Tensor, "series rows+horizon tables"]:
    """Return the slots of rows, and behind the last real one of each series those ``ahead``."""
    horizon = ahead.shape[1]
    slots = torch.cat([rows.slots, ahead], dim=1)
    places = rows.real.sum(1, keepdim=True) + torch.arange(horizon)
    slots[torch.arange(len(slots))[:, None], places] = ahead
    return slots
