from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from titans_seq.exceptions import DataError
from titans_seq.forecasting.plots import plot_forecast


@pytest.fixture
def forecast() -> pd.DataFrame:
    times = pd.date_range("2024-01-03", periods=6, freq="h")
    parts = [
        pd.DataFrame({"shop": name, "ds": times, "y_pred": 1.0, "y_pred-q0.1": 0.5,
                      "y_pred-q0.5": 1.1, "y_pred-q0.9": 2.0})
        for name in "ab"
    ]  # fmt: skip
    return pd.concat(parts)


def _history(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.rename(columns={"when": "ds"})


def test_draws_history_forecast_and_interval_of_each_series(
    tmp_path: Path, frame: pd.DataFrame, forecast: pd.DataFrame
) -> None:
    figure = plot_forecast(
        _history(frame), forecast, tmp_path / "a.png", id_col="shop", target_col="sold"
    )
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    for axes, name in zip(figure.axes, "ab", strict=True):
        history, expected = axes.lines
        own = frame[frame["shop"] == name].sort_values("when")["sold"]
        assert np.array_equal(history.get_ydata(), own.tail(24))
        assert (expected.get_ydata() == 1).all()
        (interval,) = axes.collections
        heights = interval.get_paths()[0].vertices[:, 1]
        assert (heights.min(), heights.max()) == (0.5, 2.0)


def test_what_came_is_drawn_beside_the_forecast(
    frame: pd.DataFrame, forecast: pd.DataFrame
) -> None:
    came = forecast.assign(sold=3.0)
    figure = plot_forecast(_history(frame), forecast, actual=came, id_col="shop", target_col="sold")
    assert (figure.axes[0].lines[2].get_ydata() == 3).all()


def test_names_the_column_that_is_missing(frame: pd.DataFrame, forecast: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="the history has no column 'y'"):
        plot_forecast(_history(frame), forecast, id_col="shop")
    with pytest.raises(DataError, match="the forecast has no column 'unique_id'"):
        plot_forecast(_history(frame), forecast, target_col="sold")
