"""What a recipe's run asks of a family: learn, score, compare, draw."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pandas as pd

from titans_seq.evaluation.cards.recipes import SplitName
from titans_seq.evaluation.scores.report import Metrics


class Trial(NamedTuple):
    """One training of a run."""

    seed: int
    """``random_state`` of the estimator."""

    horizon: int | None = None
    """Rows ahead; None where nothing is forecast."""

    split: SplitName = "given"
    """Which rows are the test part."""

    @property
    def name(self) -> str:
        """What its files are called."""
        head = "" if self.horizon is None else f"horizon-{self.horizon}-"
        return f"{'' if self.split == 'given' else f'{self.split}-'}{head}seed-{self.seed}"

    @property
    def group(self) -> str:
        """Which trainings share their controls: those of a horizon, or of a split."""
        if self.split != "given":
            return self.split
        return "all" if self.horizon is None else str(self.horizon)


class Scored(NamedTuple):
    """How a trained model did on the test part."""

    scores: Metrics
    """Figures by name; the same whenever the run is repeated."""

    predictions: pd.DataFrame | Path
    """Answers beside what was right, a row each; or the file that they were written to, which is
    moved away, and its folder with it if that is then empty."""

    measured: Mapping[str, float] = {}
    """Figures that depend on the machine and the day, such as letters a second."""

    files: Mapping[str, bytes] = {}
    """Further answers, by what is put behind the training's name."""


class Model(Protocol):
    """What is trained."""

    history_: Any
    """A :class:`titans_seq.training.History`, or its table."""

    def save(self, folder: Path) -> None:
        """Write a model folder."""


class Head(Protocol):
    """One task of a run, with its data read and checked."""

    trials: tuple[Trial, ...]
    """Every training, in order."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Figures that tables print, the most important first."""

    def learn(self, trial: Trial) -> Any:
        """Return a trained :class:`Model`."""

    def score(self, model: Any, trial: Trial) -> Scored:
        """Score it on the test part."""

    def controls(self, trial: Trial) -> dict[str, Metrics]:
        """Return the scores of simple methods on the same test part."""

    def plot(self, model: Any, trial: Trial, path: Path) -> None:
        """Draw what it does on the test part."""

    def borders(self) -> dict[str, Any]:
        """Return where train ends and test begins, as plain values."""

    def title(self, trial: Trial) -> str:
        """Return what is scored and how, in one line."""
