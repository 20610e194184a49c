"""Streams with a known optimum, to tell a memory that is used from one that is there.

Each generator draws a series and knows two forecasts of it: the best that anyone could make from
the whole past, and the best from the last ``WINDOW`` rows alone. A forecaster's skill is how much
of the way from the second to the first it goes::

    skill = (E_window - E) / (E_window - E_best)

Everything that must be remembered in the test part is drawn anew there, so that no weight can
hold it. Values are one row an hour, so that the hour of the day is the place in the cycle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

WINDOW = 96
"""Rows that the window's best forecast may look at."""

HORIZON = 24
"""Rows to forecast."""

LEVELS = 24
"""Rows of the cycle of the drifting streams."""

LEVEL_VARIANCE = 4.0
"""Of a level when it is drawn; the noise of a row has variance 1."""

EVENTS, EVENT, QUIET, OTHERS = 8, 72, 24, 4
"""Kinds of events, rows of one, rows of quiet after it, and others before one may return."""

EVENT_NOISE = 0.1
"""Deviation of the noise on the events, whose own is 1."""

ERA = 42 * (EVENT + QUIET)
"""Rows after which the events of the training part are drawn anew."""

MOST_PASTS = 24
"""Times of the last jump that the best forecast keeps apart."""

Floats = npt.NDArray[np.float64]
Forecasts = Callable[[npt.NDArray[np.int64]], Floats]


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownStream:
    """A stream and its best forecasts."""

    values: Floats
    """(rows,)"""

    test_begin: int
    """First row of the test part."""

    score_begin: int
    """First cutoff to score: what the test part holds must first have been seen there."""

    best: Forecasts
    """Best forecasts from the whole past, (cutoffs, horizon)."""

    window: Forecasts
    """Best forecasts from the last ``WINDOW`` rows."""

    def frame(self) -> pd.DataFrame:
        """Return the stream as a frame with one row an hour."""
        times = pd.date_range("2001-01-01", periods=len(self.values), freq="h")
        return pd.DataFrame({"ds": times, "y": self.values})

    def target(self, cutoffs: npt.NDArray[np.int64]) -> Floats:
        """Return what came, (cutoffs, horizon)."""
        came: Floats = self.values[cutoffs[:, None] + np.arange(HORIZON)]
        return came

    def skill(self, cutoffs: npt.NDArray[np.int64], forecasts: Floats) -> float:
        """Return the skill of forecasts: 0 is the best from the window, 1 that from all."""
        came = self.target(cutoffs)
        least = np.mean((self.best(cutoffs) - came) ** 2)
        window = np.mean((self.window(cutoffs) - came) ** 2)
        return float((window - np.mean((forecasts - came) ** 2)) / (window - least))


def recall_stream(train_rows: int, test_rows: int, seed: int) -> KnownStream:
    """Draw events that return only after several others, beyond the window.

    An event is ``EVENT`` values of white noise, one of ``EVENTS`` kinds; its beginning tells
    which. From the window alone the best forecast is 0: no kind is in it twice.
    """
    source = np.random.default_rng(seed)
    parts, values = [], np.zeros(train_rows + test_rows)
    for begin in [*range(0, train_rows, ERA), train_rows]:
        end = min(begin + ERA, train_rows) if begin < train_rows else len(values)
        kinds = source.standard_normal((EVENTS, EVENT))
        order: list[int] = []
        for first in range(begin, end, EVENT + QUIET):
            free = [kind for kind in range(EVENTS) if kind not in order[-OTHERS:]]
            order.append(int(source.choice(free)))
            last = min(first + EVENT, end)
            values[first:last] = kinds[order[-1]][: last - first]
        parts.append((begin, kinds, order))
    values += EVENT_NOISE * source.standard_normal(len(values))

    def best(cutoffs: npt.NDArray[np.int64]) -> Floats:
        return np.stack([_best_recall(values, parts, int(cutoff)) for cutoff in cutoffs])

    def window(cutoffs: npt.NDArray[np.int64]) -> Floats:
        return np.zeros((len(cutoffs), HORIZON))

    warm = 3 * EVENTS * (EVENT + QUIET)
    return KnownStream(
        values=values,
        test_begin=train_rows,
        score_begin=train_rows + warm,
        best=best,
        window=window,
    )


def _best_recall(values: Floats, parts: list[tuple[int, Floats, list[int]]], cutoff: int) -> Floats:
    """Return the mean of what follows, given every kind and what has been seen of this one."""
    begin, kinds, order = next(part for part in reversed(parts) if part[0] <= cutoff)
    event, place = divmod(cutoff - begin, EVENT + QUIET)
    seen = min(place, EVENT)
    rows = values[cutoff - place : cutoff - place + seen]
    free = [kind for kind in range(EVENTS) if kind not in order[max(0, event - OTHERS) : event]]
    log_chance = -((rows - kinds[free][:, :seen]) ** 2).sum(1) / (2 * EVENT_NOISE**2)
    chance = np.exp(log_chance - log_chance.max())
    chance /= chance.sum()
    expected = np.concatenate([chance @ kinds[free], np.zeros(QUIET)])[place:]
    following = np.zeros(EVENT)
    for kind, share in zip(free, chance, strict=True):
        before = [*order[max(0, event - OTHERS + 1) : event], kind]
        others = [other for other in range(EVENTS) if other not in before]
        following += share * kinds[others].mean(0)
    return np.concatenate([expected, following])[:HORIZON]


def drift_stream(
    train_rows: int, test_rows: int, seed: int, *, walk: float = 0.1, jump: float = 0.0
) -> KnownStream:
    """Draw ``LEVELS`` levels that random-walk, one step a day, on through the test.

    Parameters
    ----------
    train_rows, test_rows
        Rows of the two parts; the levels are drawn anew between them.
    seed
        Of everything.
    walk
        Deviation of one step of a level; the noise on a row has deviation 1.
    jump
        Chance of a day to begin with all levels drawn anew.
    """
    source = np.random.default_rng(seed)
    rows = train_rows + test_rows
    values = np.empty(rows)
    levels = np.zeros(LEVELS)
    for row in range(rows):
        place = row % LEVELS
        if row in (0, train_rows) or (place == 0 and source.random() < jump):
            levels = np.sqrt(LEVEL_VARIANCE) * source.standard_normal(LEVELS)
        levels[place] += walk * source.standard_normal()
        values[row] = levels[place] + source.standard_normal()
    past = np.concatenate(
        [
            filtered_levels(part, walk=walk, jump=jump)
            for part in (values[:train_rows], values[train_rows:])
        ]
    )

    def at(levels: Floats, cutoff: int) -> Floats:
        return levels[(cutoff + np.arange(HORIZON)) % LEVELS]

    def best(cutoffs: npt.NDArray[np.int64]) -> Floats:
        return np.stack([at(past[cutoff - 1], cutoff) for cutoff in cutoffs])

    def window(cutoffs: npt.NDArray[np.int64]) -> Floats:
        days = (cutoffs - train_rows) / LEVELS
        walked = walk**2 * (np.minimum(days, 1 / jump) if jump else days)
        parts = zip(cutoffs, LEVEL_VARIANCE + walked, strict=True)
        return np.stack(
            [
                at(
                    filtered_levels(
                        values[cutoff - WINDOW : cutoff],
                        walk=walk,
                        jump=jump,
                        variance=variance,
                        first=int(cutoff - WINDOW),
                    )[-1],
                    int(cutoff),
                )
                for cutoff, variance in parts
            ]
        )

    return KnownStream(
        values=values,
        test_begin=train_rows,
        score_begin=train_rows + 20 * LEVELS,
        best=best,
        window=window,
    )


def filtered_levels(
    values: Floats,
    *,
    walk: float,
    jump: float,
    variance: float = LEVEL_VARIANCE,
    first: int = 0,
) -> Floats:
    """Return the mean of every level after each row, given all rows so far.

    A Kalman filter a level for each time that the last jump may have been at, weighed by how well
    it explains the rows since (Adams and MacKay, arXiv 0710.3742); the least likely times are
    dropped.

    Parameters
    ----------
    values
        Rows.
    walk, jump
        As in :func:`drift_stream`.
    variance
        Of a level before the first row.
    first
        Place of the first row in the cycle.
    """
    mean, spread = np.zeros((1, LEVELS)), np.full((1, LEVELS), variance)
    log_chance = np.zeros(1)
    means = np.empty((len(values), LEVELS))
    for row, value in enumerate(values):
        place = (first + row) % LEVELS
        if jump and row and place == 0:
            mean = np.vstack([mean, np.zeros(LEVELS)])
            spread = np.vstack([spread, np.full(LEVELS, LEVEL_VARIANCE)])
            log_chance = np.append(log_chance + np.log1p(-jump), np.log(jump))
        spread[:, place] += walk**2
        expected = spread[:, place] + 1
        error = value - mean[:, place]
        log_chance = log_chance - 0.5 * (error**2 / expected + np.log(expected))
        gain = spread[:, place] / expected
        mean[:, place] += gain * error
        spread[:, place] *= 1 - gain
        log_chance -= np.logaddexp.reduce(log_chance)
        if len(log_chance) > 2 * MOST_PASTS:
            kept = np.sort(np.argsort(log_chance)[-MOST_PASTS:])
            mean, spread, log_chance = mean[kept], spread[kept], log_chance[kept]
        means[row] = np.exp(log_chance) @ mean
    return means
