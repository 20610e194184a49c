"""Runs of the forecaster by the long-horizon protocol: every window of the test part is scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from titans_seq.evaluation.cards.recipes import RecipeCard
from titans_seq.evaluation.families.protocol import RunInputs, Scored, Trial
from titans_seq.evaluation.forecasts.protocols import score_forecast_controls, score_forecaster
from titans_seq.evaluation.forecasts.series import rows_before_test
from titans_seq.evaluation.scores.report import Metrics
from titans_seq.exceptions import ConfigError
from titans_seq.forecasting import TitansForecaster, read_frame

_PLOT_OFFSET = 10
"""Horizons between the start of the test part and the forecast that is plotted."""

_WHOLE_PAST = "all"
"""Value in a recipe for ``context_length=None``: TOML has no None."""

_PLOTTED_SERIES = 4


class ForecastExperiment:
    """Forecasts of one data set, split by rows in time order.

    Parameters
    ----------
    recipe
        What to train.
    inputs
        Card and files of the data set: one table.
    """

    columns = ("mse", "mae", "pinball", "coverage")

    def __init__(self, recipe: RecipeCard, inputs: RunInputs) -> None:
        card = inputs.card
        if card.columns is None or card.split is None or len(card.files) != 1:
            raise ConfigError(
                f"data set {card.name} has no columns, no split by rows, or more than one file: "
                "TitansForecaster cannot be run on it by a recipe"
            )
        self.recipe, self.card = recipe, card
        self.roles, self.split = card.columns, card.split
        (path,) = inputs.paths.values()
        self.frame = self._with_regular_times(read_frame(path))
        horizons = recipe.horizons or (recipe.settings.get("horizon", TitansForecaster().horizon),)
        self.trials = tuple(Trial(seed, h) for h in horizons for seed in recipe.seeds)

    def train(self, trial: Trial) -> TitansForecaster:
        """Return a forecaster trained on the train part; validation rows choose the epoch."""
        forecaster = self._forecaster(trial)
        frame, val_size = rows_before_test(
            self.frame, self.split, id_col=forecaster.id_col, time_col=self.roles.time,
            source=self.card.name,
        )  # fmt: skip
        return forecaster.fit(frame, val_size=val_size)

    def score(self, model: TitansForecaster, trial: Trial) -> Scored:
        """Score every window; predictions are kept for windows that do not overlap."""
        scores = score_forecaster(model, self.frame, self.split)
        borders = self.split.borders(self._shortest_length())
        forecasts = model.forecast_windows(
            self.frame, stride=model.horizon, start=borders.test_start, end=borders.test_end
        )
        # One row for each window and step.
        windows, horizon = forecasts.point.shape
        table = {
            "series": np.repeat(np.asarray(forecasts.ids).astype(str), horizon),
            "cutoff": np.repeat(forecasts.cutoffs, horizon),
            "step": np.tile(np.arange(1, horizon + 1), windows),
            "actual": forecasts.actual.ravel(),
            "forecast": forecasts.point.ravel(),
        }
        for index, level in enumerate(model.quantiles):
            table[f"forecast-q{level:g}"] = forecasts.quantiles[..., index].ravel()
        return Scored(scores, pd.DataFrame(table))

    def controls(self, trial: Trial) -> dict[str, Metrics]:
        """Score last value, seasonal naive and least squares on the same windows."""
        forecaster = self._forecaster(trial)
        return score_forecast_controls(
            self.frame, self.split, horizon=forecaster.horizon,
            look_back=forecaster.context_length or 96, id_col=forecaster.id_col,
            time_col=self.roles.time, target_col=forecaster.target_col,
            future=forecaster.future, season=self.roles.season,
        )  # fmt: skip

    def plot(self, model: TitansForecaster, trial: Trial, path: Path) -> None:
        """Draw a forecast of the test part beside the true values."""
        from titans_seq.forecasting.plots import plot_forecast

        positions, horizon = self._positions(), model.horizon
        borders = self.split.borders(self._shortest_length())
        first = min(borders.test_start + _PLOT_OFFSET * horizon, borders.test_end - horizon)
        history = self.frame[positions < first]
        actual = self.frame[(positions >= first) & (positions < first + horizon)]
        known = [name for name in (self.roles.id, self.roles.time, *model.future) if name]
        forecast = model.predict(history, actual[known] if model.future else None)
        target = self._targets()[0] if len(self._targets()) == 1 else "y"
        plot_forecast(
            self._melted(history), forecast, path, actual=self._melted(actual),
            id_col=model.id_col, time_col=self.roles.time, target_col=target,
            series=self._plotted_series(), rows=4 * horizon, title=self.title(trial),
        )  # fmt: skip

    def borders(self) -> dict[str, Any]:
        """Return the borders of the shortest series."""
        rows = self._shortest_length()
        return {"split": str(self.split), "rows": rows, **self.split.borders(rows)._asdict()}

    def title(self, trial: Trial) -> str:
        """Return a one-line description of data and scoring."""
        count = len(self._targets()) if self.roles.id is None else self._ids().nunique()
        return (
            f"{self.card.name}: {trial.horizon} rows ahead, {count} series, all windows of the "
            "test part, in units of the train rows' deviation"
        )

    def _forecaster(self, trial: Trial) -> TitansForecaster:
        """Return an estimator with the card's columns and the recipe's settings."""
        roles = self.roles
        targets = self._targets()
        columns: dict[str, Any] = {
            "time_col": roles.time,
            "target_col": targets[0] if len(targets) == 1 else targets,
            "static": roles.static,
            "past": roles.past,
            "future": roles.future,
        }
        if roles.id is not None:
            columns["id_col"] = roles.id
        settings = {**columns, **self.recipe.settings, "horizon": trial.horizon}
        if settings.get("context_length") == _WHOLE_PAST:
            settings["context_length"] = None
        return TitansForecaster(random_state=trial.seed, **settings)

    def _with_regular_times(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the frame with times counted from the first if the card gives a step."""
        if self.roles.step is None:
            return frame
        first = pd.to_datetime(frame[self.roles.time].iloc[0])
        times = pd.date_range(first, periods=len(frame), freq=self.roles.step)
        return frame.assign(**{self.roles.time: times})

    def _targets(self) -> list[str]:
        """Return the columns to forecast."""
        target = self.roles.target
        if target == "*":
            return [name for name in self.frame.columns if name != self.roles.time]
        return [target] if isinstance(target, str) else list(target)

    def _ids(self) -> pd.Series:
        """Return the id of each row; the same for all in a table of one series."""
        if self.roles.id is not None:
            return self.frame[self.roles.id]
        return pd.Series(0, index=self.frame.index)

    def _positions(self) -> pd.Series:
        """Return the position of each row in its series."""
        return self.frame.groupby(self._ids()).cumcount()

    def _shortest_length(self) -> int:
        """Return the number of rows of the shortest series."""
        return int(self._ids().value_counts().min())

    def _melted(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a wide table in long form, for a plot."""
        targets = self._targets()
        if len(targets) == 1:
            return frame
        return frame.melt(self.roles.time, targets, "unique_id", "y")

    def _plotted_series(self) -> list[object] | None:
        """Return the series to plot; None for a table of one."""
        targets = self._targets()
        if len(targets) > 1:
            return list(targets[-_PLOTTED_SERIES:])
        return None if self.roles.id is None else list(self._ids().unique()[:_PLOTTED_SERIES])
