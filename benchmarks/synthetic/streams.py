"""Streams with a known optimal forecast, to measure what a forecaster's memory is worth.

Each generator draws a series and computes two forecasts of it: the optimal one from the whole
past, and the optimal one from the last ``WINDOW`` rows alone. The skill of a forecaster compares
its mean squared error E with theirs::

    skill = (E_window - E) / (E_window - E_best)

Everything that must be remembered in the test part is drawn anew there, so that no trained weight
can hold it. A row is an hour, so that the hour of the day is the phase of the cycle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

WINDOW = 96
"""Rows that the optimal forecast from a window may use."""

HORIZON = 24
"""Rows to forecast."""

LEVELS = 24
"""Rows of the cycle of the drifting streams, each with a level of its own."""

LEVEL_VARIANCE = 4.0
"""Variance of a newly drawn level; the noise of a row has variance 1."""

EVENT_KINDS, EVENT, QUIET = 8, 72, 24
"""Kinds of events, rows of an event, and rows of noise alone after it."""

MIN_OTHERS = 4
"""Events of other kinds before a kind may return."""

EVENT_NOISE = 0.1
"""Standard deviation of the noise on the events, whose values have 1."""

ERA = 42 * (EVENT + QUIET)
"""Rows after which the kinds of events of the training part are drawn anew."""

MAX_HYPOTHESES = 24
"""Hypotheses about the time of the last jump that the optimal filter keeps."""

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownStream:
    """A stream and its optimal forecasts."""

    values: FloatArray
    """(rows,)"""

    test_begin: int
    """First row of the test part."""

    score_begin: int
    """First cutoff to score: the new values of the test part must have been observable before."""

    best: Callable[[IntArray], FloatArray]
    """Optimal forecasts from the whole past, (cutoffs, horizon)."""

    window: Callable[[IntArray], FloatArray]
    """Optimal forecasts from the last ``WINDOW`` rows, of the same shape."""

    def frame(self) -> pd.DataFrame:
        """Return the stream as a frame with one row an hour."""
        times = pd.date_range("2001-01-01", periods=len(self.values), freq="h")
        return pd.DataFrame({"ds": times, "y": self.values})

    def target(self, cutoffs: IntArray) -> FloatArray:
        """Return the observed values, (cutoffs, horizon)."""
        observed: FloatArray = self.values[cutoffs[:, None] + np.arange(HORIZON)]
        return observed

    def skill(self, cutoffs: IntArray, forecasts: FloatArray) -> float:
        """Return the skill of forecasts: 0 is the optimum from the window, 1 that from all rows."""
        observed = self.target(cutoffs)
        best_error = np.mean((self.best(cutoffs) - observed) ** 2)
        window_error = np.mean((self.window(cutoffs) - observed) ** 2)
        error = np.mean((forecasts - observed) ** 2)
        return float((window_error - error) / (window_error - best_error))


def recall_stream(train_rows: int, test_rows: int, seed: int) -> KnownStream:
    """Draw events that recur only after several others, outside the window.

    An event is ``EVENT`` values of white noise, one of ``EVENT_KINDS`` kinds; its first values
    identify the kind. From the window alone the optimal forecast is 0: no kind is in it twice.
    """
    generator = np.random.default_rng(seed)
    eras, values = [], np.zeros(train_rows + test_rows)
    for begin in [*range(0, train_rows, ERA), train_rows]:
        end = min(begin + ERA, train_rows) if begin < train_rows else len(values)
        kinds = generator.standard_normal((EVENT_KINDS, EVENT))
        order: list[int] = []
        for first in range(begin, end, EVENT + QUIET):
            free = [kind for kind in range(EVENT_KINDS) if kind not in order[-MIN_OTHERS:]]
            order.append(int(generator.choice(free)))
            last = min(first + EVENT, end)
            values[first:last] = kinds[order[-1]][: last - first]
        eras.append((begin, kinds, order))
    values += EVENT_NOISE * generator.standard_normal(len(values))

    def best(cutoffs: IntArray) -> FloatArray:
        return np.stack([_best_recall(values, eras, int(cutoff)) for cutoff in cutoffs])

    def window(cutoffs: IntArray) -> FloatArray:
        return np.zeros((len(cutoffs), HORIZON))

    warm = 3 * EVENT_KINDS * (EVENT + QUIET)
    return KnownStream(
        values=values,
        test_begin=train_rows,
        score_begin=train_rows + warm,
        best=best,
        window=window,
    )


def _best_recall(
    values: FloatArray, eras: list[tuple[int, FloatArray, list[int]]], cutoff: int
) -> FloatArray:
    """Return the posterior mean of the next rows, given all kinds and the event's first rows."""
    begin, kinds, order = next(era for era in reversed(eras) if era[0] <= cutoff)
    event, phase = divmod(cutoff - begin, EVENT + QUIET)
    seen = min(phase, EVENT)
    first_rows = values[cutoff - phase : cutoff - phase + seen]
    recent = order[max(0, event - MIN_OTHERS) : event]
    free = [kind for kind in range(EVENT_KINDS) if kind not in recent]
    log_likelihood = -((first_rows - kinds[free][:, :seen]) ** 2).sum(1) / (2 * EVENT_NOISE**2)
    posterior = np.exp(log_likelihood - log_likelihood.max())  # the prior is uniform
    posterior /= posterior.sum()
    expected = np.concatenate([posterior @ kinds[free], np.zeros(QUIET)])[phase:]
    # The event after this one: each kind that may follow is equally likely.
    following = np.zeros(EVENT)
    for kind, share in zip(free, posterior, strict=True):
        before = [*order[max(0, event - MIN_OTHERS + 1) : event], kind]
        others = [other for other in range(EVENT_KINDS) if other not in before]
        following += share * kinds[others].mean(0)
    return np.concatenate([expected, following])[:HORIZON]


def drift_stream(
    train_rows: int, test_rows: int, seed: int, *, walk: float = 0.1, jump: float = 0.0
) -> KnownStream:
    """Draw a cycle of ``LEVELS`` levels, each a random walk with one step a day.

    Parameters
    ----------
    train_rows, test_rows
        Rows of the two parts; the levels are drawn anew between them.
    seed
        Seed of everything random.
    walk
        Standard deviation of one step of a level; that of the noise on a row is 1.
    jump
        Probability that a day begins with all levels drawn anew.
    """
    generator = np.random.default_rng(seed)
    rows = train_rows + test_rows
    values = np.empty(rows)
    levels = np.zeros(LEVELS)
    for row in range(rows):
        phase = row % LEVELS
        if row in (0, train_rows) or (phase == 0 and generator.random() < jump):
            levels = np.sqrt(LEVEL_VARIANCE) * generator.standard_normal(LEVELS)
        levels[phase] += walk * generator.standard_normal()
        values[row] = levels[phase] + generator.standard_normal()
    filtered = np.concatenate(
        [
            filtered_levels(part, walk=walk, jump=jump)
            for part in (values[:train_rows], values[train_rows:])
        ]
    )

    def at(levels: FloatArray, cutoff: int) -> FloatArray:
        return levels[(cutoff + np.arange(HORIZON)) % LEVELS]

    def best(cutoffs: IntArray) -> FloatArray:
        return np.stack([at(filtered[cutoff - 1], cutoff) for cutoff in cutoffs])

    def window(cutoffs: IntArray) -> FloatArray:
        days = (cutoffs - train_rows) / LEVELS
        # The variance of a level grows with the days since it was drawn, 1 / jump of them in
        # expectation.
        walked = walk**2 * (np.minimum(days, 1 / jump) if jump else days)
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
                for cutoff, variance in zip(cutoffs, LEVEL_VARIANCE + walked, strict=True)
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
    values: FloatArray,
    *,
    walk: float,
    jump: float,
    variance: float = LEVEL_VARIANCE,
    first: int = 0,
) -> FloatArray:
    """Return the posterior mean of every level after each row, given all rows so far.

    Bayesian online change-point detection (Adams and MacKay, arXiv 0710.3742): for each time at
    which the last jump may have been, a Kalman filter a level; the filters are weighted by the
    posterior of their time, and the least likely ones are dropped.

    Parameters
    ----------
    values
        Rows.
    walk, jump
        As in :func:`drift_stream`.
    variance
        Variance of a level before the first row.
    first
        Phase of the first row in the cycle.
    """
    mean, spread = np.zeros((1, LEVELS)), np.full((1, LEVELS), variance)
    log_posterior = np.zeros(1)
    means = np.empty((len(values), LEVELS))
    for row, value in enumerate(values):
        phase = (first + row) % LEVELS
        if jump and row and phase == 0:  # a new hypothesis: all levels were drawn anew just now
            mean = np.vstack([mean, np.zeros(LEVELS)])
            spread = np.vstack([spread, np.full(LEVELS, LEVEL_VARIANCE)])
            log_posterior = np.append(log_posterior + np.log1p(-jump), np.log(jump))
        spread[:, phase] += walk**2
        row_variance = spread[:, phase] + 1
        error = value - mean[:, phase]
        log_posterior = log_posterior - 0.5 * (error**2 / row_variance + np.log(row_variance))
        gain = spread[:, phase] / row_variance
        mean[:, phase] += gain * error
        spread[:, phase] *= 1 - gain
        log_posterior -= np.logaddexp.reduce(log_posterior)
        if len(log_posterior) > 2 * MAX_HYPOTHESES:
            kept = np.sort(np.argsort(log_posterior)[-MAX_HYPOTHESES:])
            mean, spread, log_posterior = mean[kept], spread[kept], log_posterior[kept]
        means[row] = np.exp(log_posterior) @ mean
    return means
