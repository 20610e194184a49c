"""Our scores set beside those that a board has published.

A score of a task is divided by that of the board's seasonal naive forecast; a model is ranked by
the geometric mean of these ratios over the tasks. Boards differ in lags, windows and quantiles: a
table is made only where our own seasonal naive forecast reproduces the published one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from titans_seq.evaluation.boards.baselines import seasonal_naive_forecaster
from titans_seq.evaluation.boards.records import Board, BoardTask
from titans_seq.evaluation.boards.scoring import BOARD_LEVELS, score_quantiles
from titans_seq.evaluation.boards.windows import BoardWindow
from titans_seq.exceptions import DataError

TaskScores = Mapping[str, Mapping[str, float]]
"""Scores of a model, by task and name."""

_PRINTED_DIGITS = 5
"""Significant digits of the published scores."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BoardRow:
    """One model in a board's table."""

    model: str

    relative: Mapping[str, float]
    """Geometric mean over the tasks of score over that of seasonal naive, by score."""

    rank: float
    """Mean over tasks of the rank by the first score, 1 the best, among models with every task."""

    tasks: int
    """Tasks of the table that the model has scores of."""

    leaks: int
    """Tasks of them on whose data it was trained, by the board's own words."""

    kind: str
    """What the board calls it; ``measured`` for our own runs."""


def check_naive(board: Board, task: BoardTask, windows: Sequence[BoardWindow]) -> None:
    """Compare our seasonal naive scores of a task with the published ones.

    Raises
    ------
    DataError
        If one differs in a printed digit: the data or the protocol are not the board's.
    """
    forecast = seasonal_naive_forecaster(board.naive)(task, windows)
    ours = score_quantiles(windows, forecast, task.season)
    for score in board.scores:
        published = board.published_score(task.name, board.naive_model, score)
        if published is None or not _same_digits(ours[score], published):
            raise DataError(
                f"board {board.name}, task {task.name}: {score} of seasonal naive is "
                f"{ours[score]:.6g} here, but {published} on the board; scores on these data "
                "cannot be compared"
            )


def _same_digits(ours: float, published: float) -> bool:
    """Tell whether ``ours`` rounds to ``published``, which has five significant digits."""
    if published == 0:
        return abs(ours) < 10.0**-_PRINTED_DIGITS
    unit = 10.0 ** (math.floor(math.log10(abs(published))) - _PRINTED_DIGITS + 1)
    return abs(ours - published) <= 0.505 * unit


def rank_models(board: Board, measured: Mapping[str, TaskScores]) -> list[BoardRow]:
    """Return the rows of a board's table, the best first by the first score.

    Parameters
    ----------
    board
        The board.
    measured
        Our own scores by model; only tasks that every one of them has are compared.

    Raises
    ------
    DataError
        If there is no task that all of them have.
    """
    tasks = [task.name for task in board.tasks if all(task.name in m for m in measured.values())]
    if not tasks:
        raise DataError(f"board {board.name}: no task has scores of all measured models")
    kinds = {row.model: row.kind for row in board.published}
    leaks = {(row.model, row.task) for row in board.published if row.leak}
    tables = {score: _score_table(board, measured, tasks, score) for score in board.scores}
    first = tables[board.scores[0]]
    complete = first.dropna()
    ranks = complete.rank(axis=0).mean(axis=1)
    naive = {score: table.loc[board.naive_model] for score, table in tables.items()}
    rows = []
    for model in first.index:
        ratios = {score: table.loc[model] / naive[score] for score, table in tables.items()}
        rows.append(
            BoardRow(
                model=model,
                relative={score: _geometric_mean(ratio) for score, ratio in ratios.items()},
                rank=float(ranks.get(model, math.nan)),
                tasks=int(first.loc[model].notna().sum()),
                leaks=sum((model, task) in leaks for task in tasks),
                kind="measured" if model in measured else kinds[model],
            )
        )
    return sorted(rows, key=lambda row: (-row.tasks, row.relative[board.scores[0]]))


def _score_table(
    board: Board, measured: Mapping[str, TaskScores], tasks: Sequence[str], score: str
) -> pd.DataFrame:
    """Return one score, a row a model and a column a task; NaN where there is none."""
    cells = {
        (row.model, row.task): row.scores[score] for row in board.published if score in row.scores
    }
    for model, scores in measured.items():
        cells |= {(model, task): scores[task][score] for task in tasks}
    series = pd.Series(cells, dtype=np.float64)
    return series.unstack().reindex(columns=list(tasks)).dropna(how="all")


def _geometric_mean(ratios: pd.Series) -> float:
    known = ratios.dropna()
    return float(np.exp(np.log(known).mean())) if len(known) else math.nan


def score_predictions(
    board: Board, task: BoardTask, windows: Sequence[BoardWindow], predictions: pd.DataFrame
) -> dict[str, float]:
    """Score a table of forecasts from anywhere.

    Parameters
    ----------
    board, task, windows
        The task and its windows, see :func:`titans_seq.evaluation.boards.windows.read_windows`.
    predictions
        Columns ``task``, ``series``, ``window`` (0 the earliest), ``step`` (from 1 on), and a
        quantile a column, ``0.1`` to ``0.9``; rows of other tasks are passed over.

    Raises
    ------
    DataError
        If a column or a row is missing or stands twice; it is named.
    """
    levels = [f"{level:.1f}" for level in BOARD_LEVELS]
    for column in ("task", "series", "window", "step", *levels):
        if column not in predictions:
            raise DataError(f"predictions: column {column!r} is missing")
    rows = predictions[predictions["task"] == task.name]
    keys = pd.MultiIndex.from_frame(rows[["series", "window", "step"]])
    if keys.has_duplicates:
        series, window, step = keys[keys.duplicated()][0]
        raise DataError(
            f"predictions, task {task.name}, series {series}, window {window}: step {step} stands "
            "twice"
        )
    wanted = pd.MultiIndex.from_tuples(
        [(w.series, w.number, step) for w in windows for step in range(1, task.horizon + 1)]
    )
    places = keys.get_indexer(wanted)
    if (places < 0).any():
        series, window, step = wanted[int(np.argmin(places))]
        raise DataError(
            f"predictions, task {task.name}, series {series}, window {window}: step {step} is "
            "missing"
        )
    values = rows[levels].to_numpy(np.float64)[places]
    shape = (len(windows), task.horizon, len(levels))
    return score_quantiles(windows, values.reshape(shape), task.season)
