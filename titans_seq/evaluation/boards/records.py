"""Cards of leaderboards, as frozen records that check themselves.

``datasets/boards/NAME.toml`` holds the tasks of a board whose data we have cards of, and the rules
that its scores follow; ``datasets/boards/NAME.csv`` holds the scores that the board has published.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from titans_seq.config import record_from_table
from titans_seq.evaluation.cards.reading import card_folder, read_toml
from titans_seq.exceptions import ConfigError

Score = Literal["mase", "wql", "sql"]
"""Scores of a board, see :mod:`titans_seq.evaluation.boards.scoring`."""

_FOLDER = "boards"


@dataclass(frozen=True, kw_only=True, slots=True)
class BoardTask:
    """One task of a board: forecasts of the last windows of the series of a data set."""

    name: str
    """Name on the board."""

    datasets: tuple[str, ...]
    """Cards of the data sets whose series it takes."""

    horizon: int
    """Values of a window."""

    season: int
    """Lag of the seasonal naive forecast, and of the errors that MASE and SQL divide by."""

    windows: int = 1
    """Windows of a series, one after the other, without overlap."""

    skipped: int = 0
    """Values after the last window, which the task does not use."""

    averaged: int = 1
    """Values of the file that are averaged to one of the task, such as 4 quarters of an hour."""

    grid: str | None = None
    """Time step, in pandas' notation, of the regular grid that the rows are put on first: a
    missing row is a missing value."""

    def __post_init__(self) -> None:
        """Refuse counts that make no window."""
        for field in ("horizon", "season", "windows", "averaged"):
            if getattr(self, field) < 1:
                raise ConfigError(
                    f"task {self.name}: {field} must be a positive integer, "
                    f"got {getattr(self, field)}"
                )
        if self.skipped < 0:
            raise ConfigError(f"task {self.name}: skipped must be at least 0, got {self.skipped}")


@dataclass(frozen=True, kw_only=True, slots=True)
class NaiveIntervals:
    """How a board makes quantiles of the seasonal naive forecast."""

    kind: Literal["normal", "none"]
    """``normal``: around the point, with the root mean square of the in-sample errors, times the
    root of the seasons ahead. ``none``: every quantile is the point."""

    rows: int | None = None
    """Last values of the history whose errors are taken; all if left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedScore:
    """What a board has published of one model on one task."""

    task: str
    model: str

    scores: dict[str, float]
    """By name of the score."""

    kind: str
    """What the board calls the model, such as ``zero-shot`` or ``statistical``."""

    leak: bool
    """Whether the board says that the model was trained on data of this task."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """A leaderboard, as far as we have cards of its data."""

    name: str
    summary: str
    source: str
    url: str
    licence: str

    scores: tuple[Score, ...]
    """Scores that the board prints, the most important first."""

    naive: NaiveIntervals
    """Quantiles of its seasonal naive forecast."""

    tasks: tuple[BoardTask, ...]

    published: tuple[PublishedScore, ...]

    naive_model: str = "seasonal_naive"
    """Name of the seasonal naive forecast among the published models."""

    remarks: tuple[str, ...] = ()
    """What one must know before believing its scores."""

    @property
    def models(self) -> tuple[str, ...]:
        """Published models, each once, in the order of the alphabet."""
        return tuple(sorted({row.model for row in self.published}))

    def task(self, name: str) -> BoardTask:
        """Return a task by its name.

        Raises
        ------
        ConfigError
            If the board has no such task.
        """
        for task in self.tasks:
            if task.name == name:
                return task
        known = ", ".join(task.name for task in self.tasks)
        raise ConfigError(f"board {self.name} has no task {name!r}; its tasks are {known}")

    def published_score(self, task: str, model: str, score: str) -> float | None:
        """Return one published figure, None if there is none."""
        for row in self.published:
            if row.task == task and row.model == model:
                return row.scores.get(score)
        return None


def list_boards() -> list[str]:
    """Return the names of all boards, in the order of the alphabet."""
    return sorted(path.stem for path in (card_folder("datasets") / _FOLDER).glob("*.toml"))


def read_board(name: str) -> Board:
    """Return a board with its published scores.

    Raises
    ------
    ConfigError
        If there is no such board, or its card is not as it should be.
    """
    if name not in list_boards():
        raise ConfigError(f"there is no board {name!r}; there are {', '.join(list_boards())}")
    folder = card_folder("datasets") / _FOLDER
    where = f"datasets/{_FOLDER}/{name}.toml"
    table: dict[str, Any] = read_toml(folder / f"{name}.toml")
    table["naive"] = record_from_table(NaiveIntervals, table.get("naive", {}), f"{where}, naive")
    table["tasks"] = tuple(
        record_from_table(BoardTask, row, f"{where}, tasks {number}")
        for number, row in enumerate(table.get("tasks", ()), start=1)
    )
    table["published"] = _published(folder / f"{name}.csv")
    return record_from_table(Board, table, where)


def _published(path: Path) -> tuple[PublishedScore, ...]:
    """Read the published scores: columns task, model, a column a score, kind, leak."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    plain = {"task", "model", "kind", "leak"}
    return tuple(
        PublishedScore(
            task=row["task"],
            model=row["model"],
            scores={key: float(row[key]) for key in row if key not in plain and row[key]},
            kind=row["kind"],
            leak=row["leak"] == "yes",
        )
        for row in rows
    )
