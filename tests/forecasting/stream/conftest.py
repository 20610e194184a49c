"""A small forecaster with memories, and rows to stream."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from titans_seq.forecasting import TitansForecaster

ROWS = 400


def make_frame(
    seed: int = 0, rows: int = ROWS, series: tuple[str, ...] = ("a", "b")
) -> pd.DataFrame:
    """Return hourly series with a daily shape of their own."""
    source = np.random.default_rng(seed)
    parts = []
    for number, name in enumerate(series):
        shape = 3 * source.standard_normal(24)
        values = shape[np.arange(rows) % 24] + 0.3 * source.standard_normal(rows) + 10 * number
        times = pd.date_range("2024-01-01", periods=rows, freq="h")
        parts.append(pd.DataFrame({"unique_id": name, "ds": times, "y": values}))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="session")
def frame() -> pd.DataFrame:
    return make_frame()


@pytest.fixture(scope="session")
def forecaster(frame: pd.DataFrame) -> TitansForecaster:
    small = TitansForecaster(
        horizon=6, context_length=24, dim=8, max_epochs=1, quantiles=(0.1, 0.9), random_state=0
    )
    history = frame[frame["ds"] < frame["ds"].iloc[300]]
    small.fit(history)
    small.stream()
    return small


@pytest.fixture(scope="session")
def remembering(frame: pd.DataFrame) -> TitansForecaster:
    """One that remembers whatever was before its look-back."""
    small = TitansForecaster(horizon=6, context_length=None, dim=8, max_epochs=1, random_state=0)
    return small.fit(frame[frame["ds"] < frame["ds"].iloc[300]])


@pytest.fixture
def later(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows that follow those of ``fit``, of both series."""
    return frame[frame["ds"] >= frame["ds"].iloc[300]]


@pytest.fixture
def longer() -> pd.DataFrame:
    """The same series with more rows."""
    return make_frame(rows=700)
