"""Tables that continue another one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from titans_seq.exceptions import DataError
from titans_seq.forecasting.tables.arrays import IntArray
from titans_seq.forecasting.tables.table import Table


def join(old: Table, new: Table, *, counted: bool) -> tuple[Table, IntArray]:
    """Return the series of ``new`` after their rows in ``old``, and where their new rows begin.

    Parameters
    ----------
    old, new
        Tables of the same columns. Where both have a row, the new one is kept.
    counted
        Whether times only count rows: the first new row then follows the last old one.

    Raises
    ------
    DataError
        If a series of ``new`` begins before its rows in ``old``, or off their grid.
    """
    known = {name: code for code, name in enumerate(old.ids)}
    old_codes = [known.get(name) for name in new.ids]
    begins = np.array(
        [
            0 if code is None else _offset(old, code, new, series, counted=counted)
            for series, code in enumerate(old_codes)
        ],
        dtype=np.int64,
    )
    before = np.array([0 if code is None else old.lengths()[code] for code in old_codes])
    starts = np.concatenate([[0], np.cumsum(np.maximum(before, begins + new.lengths()))])

    def combine(added: npt.NDArray[Any], past: npt.NDArray[Any]) -> npt.NDArray[Any]:
        blank: Any = {"O": None, "b": False}.get(added.dtype.kind, np.nan)
        combined = np.full(int(starts[-1]), blank, dtype=added.dtype)
        for series, code in enumerate(old_codes):
            start = int(starts[series])
            if code is not None:
                own = past[old.starts[code] : old.starts[code + 1]]
                combined[start : start + len(own)] = own
            rows = slice(int(new.starts[series]), int(new.starts[series + 1]))
            present = new.present[rows]
            combined[np.flatnonzero(present) + start + int(begins[series])] = added[rows][present]
        return combined

    joined = replace(
        new,
        first=[
            new.first[series] if code is None else old.first[code]
            for series, code in enumerate(old_codes)
        ],
        starts=starts,
        present=combine(new.present, old.present),
        target=combine(new.target, old.target),
        varying={name: combine(values, old.varying[name]) for name, values in new.varying.items()},
    )
    return joined, begins


def _offset(old: Table, code: int, new: Table, series: int, *, counted: bool) -> int:
    """Return the row, counted from a series' first old one, at which its new rows begin."""
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
