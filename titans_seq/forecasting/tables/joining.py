"""Tables that go on where another one ended."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from titans_seq.exceptions import DataError
from titans_seq.forecasting.tables.arrays import IntArray
from titans_seq.forecasting.tables.table import Table


def join(old: Table, new: Table, *, counted: bool) -> tuple[Table, IntArray]:
    """Return the series of ``new`` behind their rows in ``old``, and where their new rows begin.

    Parameters
    ----------
    old, new
        Tables of the same columns. Where both hold a row, it is the new one's.
    counted
        Whether times are mere counts of rows: the first new row then follows the last old one.

    Raises
    ------
    DataError
        If a series of ``new`` begins before its rows in ``old``, or is off their grid.
    """
    known = {name: code for code, name in enumerate(old.ids)}
    pairs = [known.get(name) for name in new.ids]
    begins = np.array(
        [
            0 if code is None else _offset(old, code, new, series, counted=counted)
            for series, code in enumerate(pairs)
        ],
        dtype=np.int64,
    )
    before = np.array([0 if code is None else old.lengths()[code] for code in pairs])
    starts = np.concatenate([[0], np.cumsum(np.maximum(before, begins + new.lengths()))])

    def lay(held: npt.NDArray[Any], past: npt.NDArray[Any]) -> npt.NDArray[Any]:
        blank: Any = {"O": None, "b": False}.get(held.dtype.kind, np.nan)
        whole = np.full(int(starts[-1]), blank, dtype=held.dtype)
        for series, code in enumerate(pairs):
            start = int(starts[series])
            if code is not None:
                own = past[old.starts[code] : old.starts[code + 1]]
                whole[start : start + len(own)] = own
            rows = slice(int(new.starts[series]), int(new.starts[series + 1]))
            there = np.flatnonzero(new.present[rows]) + start + int(begins[series])
            whole[there] = held[rows][new.present[rows]]
        return whole

    joined = replace(
        new,
        first=[
            new.first[series] if code is None else old.first[code]
            for series, code in enumerate(pairs)
        ],
        starts=starts,
        present=lay(new.present, old.present),
        target=lay(new.target, old.target),
        varying={name: lay(held, old.varying[name]) for name, held in new.varying.items()},
    )
    return joined, begins


def _offset(old: Table, code: int, new: Table, series: int, *, counted: bool) -> int:
    """Return at which row of its old rows a series goes on."""
    if counted:
        return int(old.lengths()[code])
    first, later = old.first[code], new.first[series]
    rows = new.grid.rows_until(first, later)
    if rows < 1 or new.grid.times(first, rows - 1, rows)[0] != later:
        raise DataError(
            f"series {new.ids[series]!r} goes on at {later}, which is not on the grid of "
            f"frequency {new.grid.freq!r} that begins with its rows in fit at {first}"
        )
    return rows - 1
