"""What a recipe's run asks of a head: learn, score, compare, draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pandas as pd

from titans_seq.evaluation.card_records import DatasetCard, RecipeCard
from titans_seq.evaluation.classification import Metrics


class Trial(NamedTuple):
    """One training of a run."""

    seed: int
    """``random_state`` of the estimator."""

    horizon: int | None = None
    """Rows ahead; None where nothing is forecast."""

    @property
    def name(self) -> str:
        """What its files are called."""
        head = "" if self.horizon is None else f"horizon-{self.horizon}-"
        return f"{head}seed-{self.seed}"


class Scored(NamedTuple):
    """How a trained model did on the test part."""

    scores: Metrics
    """Figures by name."""

    predictions: pd.DataFrame
    """Answers beside what was right, a row each."""


class Head(Protocol):
    """One task of a run, with its data read and checked."""

    trials: tuple[Trial, ...]
    """Every training, in order."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Figures that tables print, the most important first."""

    def learn(self, trial: Trial) -> Any:
        """Return a trained estimator."""

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


def read_head(recipe: RecipeCard, card: DatasetCard, folder: Path | None = None) -> Head:
    """Read the data of a recipe.

    Parameters
    ----------
    recipe, card
        What to train, and on what.
    folder
        Data folder; that of ``TITANS_SEQ_DATA`` if left out.

    Raises
    ------
    ConfigError
        If recipe and card do not fit.
    MissingDataError
        If a file is nowhere.
    DataError
        If a file is not the one on the card.
    """
    if recipe.estimator == "TitansForecaster":
        from titans_seq.evaluation.forecast_head import ForecastHead

        return ForecastHead(recipe, card, folder)
    from titans_seq.evaluation.dna_head import DNAHead

    return DNAHead(recipe, card, folder)
