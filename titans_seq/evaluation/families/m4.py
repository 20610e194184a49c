"""Runs of a forecaster on a competition: the last values of many series, by the rules of M4.

The train file holds a row a series, the test file what came next. One forecaster learns all
series; the last rows of each in the train file choose its epoch, the test file chooses nothing.
Every series counts the same in sMAPE and MASE, which are on the scale of the series; OWA is their
mean, each over that of Naive 2. What is scored is the median where 0.5 is among the quantiles
(both errors are least there), else the expected value.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from titans_seq.evaluation.cards.recipes import RecipeCard
from titans_seq.evaluation.cards.records import DatasetCard
from titans_seq.evaluation.families.protocol import Scored, Trial
from titans_seq.evaluation.forecasts.m4_rules import (
    REFERENCE,
    Values,
    score_m4,
    score_m4_controls,
    with_owa,
)
from titans_seq.evaluation.scores.report import Metrics
from titans_seq.exceptions import ConfigError, DataError
from titans_seq.forecasting import TitansForecaster

MEDIAN = "y_pred-q0.5"

DRAWN = 4
"""Series in a plot."""


class M4Head:
    """Forecasts of the series of one competition.

    Parameters
    ----------
    recipe, card
        What to train, and on what.
    files
        Where the card's files lie: ``train`` and ``test``.
    """

    columns = ("mase", "smape", "owa")

    def __init__(self, recipe: RecipeCard, card: DatasetCard, files: Mapping[str, Path]) -> None:
        if card.competition is None or not {"train", "test"} <= files.keys():
            raise ConfigError(f"data set {card.name} is no competition with train and test file")
        if "horizon" in recipe.settings:
            raise ConfigError(f"recipe {recipe.name}: the horizon is that of {card.name}")
        self.recipe, self.card, self.rules = recipe, card, card.competition
        self.names, self.histories = read_rows(files["train"])
        ids, rows = read_rows(files["test"])
        if ids != self.names:
            raise DataError(f"{files['test']}: other series than in {files['train']}")
        short = [name for name, row in zip(ids, rows, strict=True)
                 if len(row) != self.rules.horizon]  # fmt: skip
        if short:
            raise DataError(
                f"{files['test']}, series {short[0]}: every series must have "
                f"{self.rules.horizon} values"
            )
        self.actual = np.stack(rows)
        self.trials = tuple(Trial(seed) for seed in recipe.seeds)

    def learn(self, trial: Trial) -> TitansForecaster:
        """Return a forecaster of all series."""
        settings = {"horizon": self.rules.horizon, **self.recipe.settings}
        forecaster = TitansForecaster(random_state=trial.seed, **settings)
        return forecaster.fit(self._long())

    def score(self, model: TitansForecaster, trial: Trial) -> Scored:
        """Score the values that follow the train file."""
        table = self._forecast(model)
        told = MEDIAN if MEDIAN in table else "y_pred"
        forecast = table[told].to_numpy(np.float64).reshape(self.actual.shape)
        scores = score_m4(self.histories, self.actual, forecast, self.rules.season)
        reference = self.controls(trial)[REFERENCE]
        inside = self._coverage(table)
        table.insert(2, "actual", self.actual.ravel())
        return Scored({**with_owa(scores, reference), **inside}, table)

    def controls(self, trial: Trial) -> dict[str, Metrics]:
        """Score Naive 2, last value, seasonal naive and Theta."""
        return self._simple

    @cached_property
    def _simple(self) -> dict[str, Metrics]:
        return score_m4_controls(self.histories, self.actual, self.rules.season)

    def plot(self, model: TitansForecaster, trial: Trial, path: Path) -> None:
        """Draw the forecasts of some series beside what came."""
        from titans_seq.forecasting.plots import plot_forecast

        drawn = self.names[:: max(1, len(self.names) // DRAWN)][:DRAWN]
        forecast = self._forecast(model)
        came = forecast[["unique_id", "ds"]].assign(y=self.actual.ravel())
        plot_forecast(
            self._long(), forecast, path, actual=came, id_col="unique_id", time_col="ds",
            target_col="y", series=drawn, rows=4 * self.rules.horizon, title=self.title(trial),
        )  # fmt: skip

    def borders(self) -> dict[str, Any]:
        """Return how many series there are, and their values."""
        lengths = [len(one) for one in self.histories]
        return {"series": len(lengths), "shortest": min(lengths), "longest": max(lengths),
                "horizon": self.rules.horizon}  # fmt: skip

    def title(self, trial: Trial) -> str:
        """Return what is scored and how, in one line."""
        return (
            f"{self.card.name}: {self.rules.horizon} values ahead of {len(self.names)} series, by "
            "the rules of M4"
        )

    def _long(self) -> pd.DataFrame:
        """Return the train file a row a value, its values counted: the series have no calendar."""
        lengths = [len(one) for one in self.histories]
        return pd.DataFrame({
            "unique_id": np.repeat(self.names, lengths),
            "ds": np.concatenate([np.arange(length) for length in lengths]),
            "y": np.concatenate(self.histories),
        })  # fmt: skip

    def _forecast(self, model: TitansForecaster) -> pd.DataFrame:
        """Return the forecasts in the order of the test file."""
        order = {name: place for place, name in enumerate(self.names)}
        table = model.predict(self._long())
        place = table["unique_id"].map(order)
        return table.iloc[np.lexsort((table["ds"], place))].reset_index(drop=True)

    def _coverage(self, table: pd.DataFrame) -> Metrics:
        """Return the share of values between the outer quantiles, if there are two."""
        names = [name for name in table.columns if name.startswith("y_pred-q")]
        if len(names) < 2:
            return {}
        came = self.actual.ravel()
        inside = (table[names[0]] <= came) & (came <= table[names[-1]])
        return {"coverage": float(inside.mean())}


def read_rows(path: Path) -> tuple[list[str], list[Values]]:
    """Read a table with a row a series: its id, then its values as far as it has any.

    Raises
    ------
    DataError
        If a cell is no number, or one is missing before the last; the message names the series.
    """
    table = pd.read_csv(path, dtype={0: str})
    names = table.iloc[:, 0].astype(str).tolist()
    rows = []
    for name, cells in zip(names, table.iloc[:, 1:].to_numpy(), strict=True):
        try:
            numbers = cells.astype(np.float64)
        except ValueError as error:
            raise DataError(f"{path}, series {name}: {error}") from error
        filled = np.flatnonzero(~np.isnan(numbers))
        if not len(filled) or filled[-1] + 1 != len(filled):
            raise DataError(f"{path}, series {name}: a value is missing before the last")
        row = numbers[: len(filled)]
        if not np.isfinite(row).all():
            raise DataError(f"{path}, series {name}: a value is not finite")
        rows.append(row)
    return names, rows
