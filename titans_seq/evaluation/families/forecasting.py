"""Runs of the forecasting head: the long-horizon protocol on the data set of a card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from titans_seq.evaluation.cards.recipes import RecipeCard
from titans_seq.evaluation.cards.records import DatasetCard
from titans_seq.evaluation.families.protocol import Scored, Trial
from titans_seq.evaluation.forecasts.protocols import score_forecast_controls, score_forecaster
from titans_seq.evaluation.scores.report import Metrics
from titans_seq.exceptions import ConfigError
from titans_seq.forecasting import TitansForecaster, read_frame

INTO_TEST = 10
"""Horizons into the test part at which the forecast of the plot begins."""

WHOLE_PAST = "all"
"""What a recipe writes for ``context_length=None``: TOML knows no None."""

DRAWN = 4
"""Series in a plot, at most."""


class ForecastHead:
    """Forecasts of one data set: borders by rows, every window of the test part scored.

    Parameters
    ----------
    recipe, card
        What to train, and on what.
    files
        Where the card's files lie.
    """

    columns = ("mse", "mae", "pinball", "coverage")

    def __init__(self, recipe: RecipeCard, card: DatasetCard, files: Mapping[str, Path]) -> None:
        if card.columns is None or card.split is None or len(card.files) != 1:
            raise ConfigError(
                f"data set {card.name} has no columns, no split by rows, or more than one file: "
                "TitansForecaster cannot be run on it by a recipe"
            )
        self.recipe, self.card = recipe, card
        self.roles, self.split = card.columns, card.split
        (file,) = files.values()
        self.frame = self._counted(read_frame(file))
        horizons = recipe.horizons or (recipe.settings.get("horizon", TitansForecaster().horizon),)
        self.trials = tuple(Trial(seed, h) for h in horizons for seed in recipe.seeds)

    def learn(self, trial: Trial) -> TitansForecaster:
        """Return a forecaster that has seen train and validation rows."""
        forecaster = self._forecaster(trial)
        borders = self.split.borders(self._rows())
        place = self._place()
        held_out = borders.validation_end - borders.train_end
        return forecaster.fit(self.frame[place < borders.validation_end], val_size=held_out)

    def score(self, model: TitansForecaster, trial: Trial) -> Scored:
        """Score every window; keep the forecasts of windows that do not overlap."""
        scores = score_forecaster(model, self.frame, self.split)
        borders = self.split.borders(self._rows())
        found = model.forecast_windows(
            self.frame, stride=model.horizon, start=borders.test_start, end=borders.test_end
        )
        windows, horizon = found.point.shape
        table = {
            "series": np.repeat(np.asarray(found.ids).astype(str), horizon),
            "cutoff": np.repeat(found.cutoffs, horizon),
            "step": np.tile(np.arange(1, horizon + 1), windows),
            "actual": found.actual.ravel(),
            "forecast": found.point.ravel(),
        }
        for place, level in enumerate(model.quantiles):
            table[f"forecast-q{level:g}"] = found.quantiles[..., place].ravel()
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
        """Draw a forecast of the test part beside what came."""
        from titans_seq.forecasting.plots import plot_forecast

        place, horizon = self._place(), model.horizon
        borders = self.split.borders(self._rows())
        first = min(borders.test_start + INTO_TEST * horizon, borders.test_end - horizon)
        ahead = (place >= first) & (place < first + horizon)
        known = [name for name in (self.roles.id, self.roles.time, *model.future) if name]
        history, came = self.frame[place < first], self.frame[ahead]
        forecast = model.predict(history, came[known] if model.future else None)
        plot_forecast(
            self._long(history), forecast, path, actual=self._long(came), id_col=model.id_col,
            time_col=self.roles.time, target_col=self._target(), series=self._drawn(),
            rows=4 * horizon, title=self.title(trial),
        )  # fmt: skip

    def borders(self) -> dict[str, Any]:
        """Return the borders of the shortest series."""
        rule, rows = str(self.split), self._rows()
        return {"split": rule, "rows": rows, **self.split.borders(rows)._asdict()}

    def title(self, trial: Trial) -> str:
        """Return what is scored and how, in one line."""
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
        if settings.get("context_length") == WHOLE_PAST:
            settings["context_length"] = None
        return TitansForecaster(random_state=trial.seed, **settings)

    def _counted(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the frame with times counted from the first, where stamps are not trusted."""
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

    def _place(self) -> pd.Series:
        """Return the position of each row in its series."""
        return self.frame.groupby(self._ids()).cumcount()

    def _rows(self) -> int:
        """Return the rows of the shortest series."""
        return int(self._ids().value_counts().min())

    def _long(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a wide table as a long one, as plots want it."""
        targets = self._targets()
        if len(targets) == 1:
            return frame
        return frame.melt(self.roles.time, targets, "unique_id", "y")

    def _target(self) -> str:
        """Return the column of the values in a long table."""
        targets = self._targets()
        return targets[0] if len(targets) == 1 else "y"

    def _drawn(self) -> list[object] | None:
        """Return the series to draw; None for a table of one."""
        targets = self._targets()
        if len(targets) > 1:
            return list(targets[-DRAWN:])
        return None if self.roles.id is None else list(self._ids().unique()[:DRAWN])
