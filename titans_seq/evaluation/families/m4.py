"""Runs of a forecaster on a competition: the last values of many series, by the rules of M4.

The train file has one series a row, the test file the values that follow. One forecaster learns all
series; the last values of each in the train file choose its epoch, the test file is not used for
any choice. sMAPE and MASE are means over series, on the scale of the series; OWA is the mean of
both, each relative to Naive 2. Scored is the median if 0.5 is among the quantiles (it minimises
both errors), else the expected value.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from titans_seq.evaluation.cards.recipes import RecipeCard
from titans_seq.evaluation.families.protocol import RunInputs, Scored, Trial
from titans_seq.evaluation.forecasts.m4_rules import (
    REFERENCE,
    score_m4,
    score_m4_controls,
    with_owa,
)
from titans_seq.evaluation.scores.report import Metrics
from titans_seq.exceptions import ConfigError, DataError
from titans_seq.forecasting import TitansForecaster

_MEDIAN_COLUMN = "y_pred-q0.5"

_PLOTTED_SERIES = 4


class M4Experiment:
    """Forecasts of the series of one competition.

    Parameters
    ----------
    recipe
        What to train.
    inputs
        Card and files of the data set: ``train`` and ``test``.
    """

    columns = ("mase", "smape", "owa")

    def __init__(self, recipe: RecipeCard, inputs: RunInputs) -> None:
        card, paths = inputs.card, inputs.paths
        if card.competition is None or not {"train", "test"} <= paths.keys():
            raise ConfigError(
                f"data set {card.name} is not a competition with a train and a test file"
            )
        if "horizon" in recipe.settings:
            raise ConfigError(
                f"recipe {recipe.name}: leave out horizon, it is that of {card.name}, "
                f"{card.competition.horizon}"
            )
        self.recipe, self.card, self.rules = recipe, card, card.competition
        self.names, self.histories = read_series_rows(paths["train"])
        test_names, test_rows = read_series_rows(paths["test"])
        if test_names != self.names:
            raise DataError(f"{paths['test']}: other series than in {paths['train']}")
        for name, row in zip(test_names, test_rows, strict=True):
            if len(row) != self.rules.horizon:
                raise DataError(
                    f"{paths['test']}, series {name}: every series must have {self.rules.horizon} "
                    f"values, got {len(row)}"
                )
        self.actual = np.stack(test_rows)  # (series, horizon)
        self.trials = tuple(Trial(seed) for seed in recipe.seeds)

    def train(self, trial: Trial) -> TitansForecaster:
        """Return a forecaster of all series."""
        settings = {"horizon": self.rules.horizon, **self.recipe.settings}
        forecaster = TitansForecaster(random_state=trial.seed, **settings)
        return forecaster.fit(self._train_frame())

    def score(self, model: TitansForecaster, trial: Trial) -> Scored:
        """Score the values that follow the train file."""
        table = self._predict(model)
        column = _MEDIAN_COLUMN if _MEDIAN_COLUMN in table else "y_pred"
        forecast = table[column].to_numpy(np.float64).reshape(self.actual.shape)
        scores = score_m4(self.histories, self.actual, forecast, self.rules.season)
        reference = self.controls(trial)[REFERENCE]
        coverage = self._coverage(table)
        table.insert(2, "actual", self.actual.ravel())
        return Scored({**with_owa(scores, reference), **coverage}, table)

    def controls(self, trial: Trial) -> dict[str, Metrics]:
        """Score Naive 2, last value, seasonal naive and Theta."""
        return self._control_scores

    @cached_property
    def _control_scores(self) -> dict[str, Metrics]:
        return score_m4_controls(self.histories, self.actual, self.rules.season)

    def plot(self, model: TitansForecaster, trial: Trial, path: Path) -> None:
        """Draw the forecasts of some series beside the true values."""
        from titans_seq.forecasting.plots import plot_forecast

        series = self.names[:: max(1, len(self.names) // _PLOTTED_SERIES)][:_PLOTTED_SERIES]
        forecast = self._predict(model)
        actual = forecast[["unique_id", "ds"]].assign(y=self.actual.ravel())
        plot_forecast(
            self._train_frame(), forecast, path, actual=actual, id_col="unique_id", time_col="ds",
            target_col="y", series=series, rows=4 * self.rules.horizon, title=self.title(trial),
        )  # fmt: skip

    def borders(self) -> dict[str, Any]:
        """Return the number of series, and their lengths."""
        lengths = [len(history) for history in self.histories]
        return {"series": len(lengths), "shortest": min(lengths), "longest": max(lengths),
                "horizon": self.rules.horizon}  # fmt: skip

    def title(self, trial: Trial) -> str:
        """Return a one-line description of data and scoring."""
        return (
            f"{self.card.name}: {self.rules.horizon} values ahead of {len(self.names)} series, by "
            "the rules of M4"
        )

    def _train_frame(self) -> pd.DataFrame:
        """Return the train file in long form; times are row numbers, as there is no calendar."""
        lengths = [len(history) for history in self.histories]
        return pd.DataFrame({
            "unique_id": np.repeat(self.names, lengths),
            "ds": np.concatenate([np.arange(length) for length in lengths]),
            "y": np.concatenate(self.histories),
        })  # fmt: skip

    def _predict(self, model: TitansForecaster) -> pd.DataFrame:
        """Return the forecasts in the order of the test file."""
        order = {name: number for number, name in enumerate(self.names)}
        table = model.predict(self._train_frame())
        by_series_and_time = np.lexsort((table["ds"], table["unique_id"].map(order)))
        return table.iloc[by_series_and_time].reset_index(drop=True)

    def _coverage(self, table: pd.DataFrame) -> Metrics:
        """Return the share of values between the outer quantiles, if there are two."""
        quantiles = [name for name in table.columns if name.startswith("y_pred-q")]
        if len(quantiles) < 2:
            return {}
        actual = self.actual.ravel()
        inside = (table[quantiles[0]] <= actual) & (actual <= table[quantiles[-1]])
        return {"coverage": float(inside.mean())}


def read_series_rows(path: Path) -> tuple[list[str], list[npt.NDArray[np.float64]]]:
    """Read a table with one series a row: its id, then its values; trailing cells may be empty.

    Raises
    ------
    DataError
        If a cell is not a number, or one is missing before the last; the message names the series.
    """
    table = pd.read_csv(path, dtype={0: str})
    names = table.iloc[:, 0].astype(str).tolist()
    series = []
    for name, cells in zip(names, table.iloc[:, 1:].to_numpy(), strict=True):
        try:
            numbers = cells.astype(np.float64)
        except ValueError as error:
            raise DataError(f"{path}, series {name}: {error}") from error
        filled = np.flatnonzero(~np.isnan(numbers))
        if not len(filled) or filled[-1] + 1 != len(filled):
            raise DataError(f"{path}, series {name}: a value is missing before the last")
        values = numbers[: len(filled)]
        if not np.isfinite(values).all():
            raise DataError(f"{path}, series {name}: a value is not finite")
        series.append(values)
    return names, series
