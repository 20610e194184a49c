"""Boards: their cards, the check of the data, and the table of all models."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from titans_seq.evaluation.boards.ranking import check_naive, rank_models, score_predictions
from titans_seq.evaluation.boards.records import (
    Board,
    BoardTask,
    NaiveIntervals,
    PublishedScore,
    list_boards,
    read_board,
)
from titans_seq.evaluation.boards.scoring import BOARD_LEVELS, score_quantiles
from titans_seq.evaluation.boards.windows import BoardWindow, read_windows
from titans_seq.exceptions import ConfigError, DataError

TASKS = tuple(BoardTask(name=name, datasets=("d",), horizon=2, season=1) for name in "ab")
WINDOWS = [
    BoardWindow("d/x", 0, np.array([1.0, 2, 4]), np.array([5.0, 7])),
    BoardWindow("d/x", 1, np.array([1.0, 2, 4, 5, 7]), np.array([7.0, 8])),
]


def _published(model: str, a: float, b: float | None, leak: bool = False) -> list[PublishedScore]:
    return [
        PublishedScore(task=task, model=model, scores={"mase": score}, kind="k", leak=leak)
        for task, score in (("a", a), ("b", b))
        if score is not None
    ]


BOARD = Board(
    name="toy", summary="", source="", url="", licence="", scores=("mase",),
    naive=NaiveIntervals(kind="none"), tasks=TASKS,
    published=(
        *_published("seasonal_naive", 2.0, 4.0),
        *_published("good", 1.0, 1.0, leak=True),
        *_published("partial", 0.5, None),
    ),
)  # fmt: skip


@pytest.mark.parametrize("name", list_boards())
def test_every_board_has_its_naive_forecast_on_every_task(name: str) -> None:
    board = read_board(name)
    for task in board.tasks:
        for score in board.scores:
            found = board.published_score(task.name, board.naive_model, score)
            assert found is not None
            assert found > 0
    assert {row.task for row in board.published} == {task.name for task in board.tasks}
    assert len(board.models) >= 10


def test_there_are_as_many_tasks_as_the_cards_say() -> None:
    counts = {name: len(read_board(name).tasks) for name in list_boards()}
    assert counts == {"chronos2": 9, "chronos_m4": 2, "fev": 4, "gift": 19}


def test_an_unknown_board_or_task_is_refused() -> None:
    with pytest.raises(ConfigError, match="no board 'chronos'; there are chronos2, "):
        read_board("chronos")
    with pytest.raises(ConfigError, match="board toy has no task 'c'; its tasks are a, b"):
        BOARD.task("c")


def test_a_task_without_a_window_is_refused() -> None:
    with pytest.raises(ConfigError, match="horizon must be a positive integer, got 0"):
        dataclasses.replace(TASKS[0], horizon=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", list_boards())
def test_our_naive_forecast_is_the_board_s_to_every_printed_digit(
    name: str, shared_data: Path
) -> None:
    board = read_board(name)
    for task in board.tasks:
        check_naive(board, task, read_windows(task, shared_data))


def test_data_that_are_not_the_board_s_are_refused() -> None:
    with pytest.raises(DataError, match=r"toy, task a: mase of seasonal naive is .* but 2.0 on"):
        check_naive(BOARD, TASKS[0], WINDOWS)


def test_models_are_ranked_by_their_mean_against_seasonal_naive() -> None:
    ours = {"ours": {"a": {"mase": 1.5}, "b": {"mase": 0.75}}}
    rows = rank_models(BOARD, ours)
    assert [row.model for row in rows] == ["good", "ours", "seasonal_naive", "partial"]
    good, mine, naive, partial = rows
    assert good.relative["mase"] == pytest.approx(np.sqrt(1 / 2 * 1 / 4))
    assert mine.relative["mase"] == pytest.approx(np.sqrt(1.5 / 2 * 0.75 / 4))
    assert naive.relative["mase"] == 1
    assert (partial.tasks, partial.relative["mase"]) == (1, 0.25)
    assert (good.leaks, mine.leaks) == (2, 0)
    assert (mine.kind, good.kind) == ("measured", "k")
    assert [good.rank, mine.rank, naive.rank] == [1.5, 1.5, 3.0]
    assert np.isnan(partial.rank)


def test_only_tasks_that_were_measured_are_compared() -> None:
    rows = rank_models(BOARD, {"ours": {"a": {"mase": 1.0}}})
    assert rows[0].model == "partial"
    assert {row.tasks for row in rows} == {1}
    with pytest.raises(DataError, match="no task has scores of all measured models"):
        rank_models(BOARD, {"ours": {}})


def _predictions() -> tuple[pd.DataFrame, np.ndarray]:
    quantiles = np.sort(np.random.default_rng(0).normal(6, 1, (2, 2, 9)), axis=-1)
    index = [("a", w.series, w.number, step) for w in WINDOWS for step in (1, 2)]
    table = pd.DataFrame(index, columns=["task", "series", "window", "step"])
    names = [f"{level:.1f}" for level in BOARD_LEVELS]
    return table.join(pd.DataFrame(quantiles.reshape(4, 9), columns=names)), quantiles


def test_a_table_of_forecasts_is_scored_in_any_order() -> None:
    table, quantiles = _predictions()
    shuffled = pd.concat([table.sample(frac=1, random_state=0), table.assign(task="b")])
    found = score_predictions(BOARD, TASKS[0], WINDOWS, shuffled)
    assert found == score_quantiles(WINDOWS, quantiles, 1)


def test_a_forecast_that_is_missing_or_stands_twice_is_named() -> None:
    table, _ = _predictions()
    with pytest.raises(DataError, match="series d/x, window 1: step 2 is missing"):
        score_predictions(BOARD, TASKS[0], WINDOWS, table[:-1])
    with pytest.raises(DataError, match="series d/x, window 0: step 1 stands twice"):
        score_predictions(BOARD, TASKS[0], WINDOWS, pd.concat([table, table[:1]]))
    with pytest.raises(DataError, match=r"column '0\.3' is missing"):
        score_predictions(BOARD, TASKS[0], WINDOWS, table.drop(columns="0.3"))
