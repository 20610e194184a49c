"""Each role of a covariate helps: without it the forecast is clearly worse."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from titans_seq.forecasting import TitansForecaster
from titans_seq.forecasting.learning.closed_form import start

HORIZON = 4
SMALL: dict[str, Any] = {"horizon": HORIZON, "context_length": 16, "dim": 16, "random_state": 0,
                         "device": "cpu"}  # fmt: skip


def _series(name: object, **columns: np.ndarray) -> pd.DataFrame:
    rows = len(next(iter(columns.values())))
    return pd.DataFrame({"unique_id": name, "ds": np.arange(rows), **columns})


def _planned(rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return series that follow what is planned for each row, and their later rows."""
    plan = rng.normal(size=700)
    whole = _series("a", y=plan + 0.3 * rng.normal(size=700), x=plan)
    return whole[:600], whole[600:]


def _echoed(rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a series that repeats, a horizon later, what is measured beside it."""
    beside = rng.normal(size=1500)
    echo = np.concatenate([np.zeros(HORIZON), beside[:-HORIZON]])
    whole = _series("a", y=echo + 0.3 * rng.normal(size=1500), x=beside)
    return whole[:1300], whole[1300:]


def _of_two_kinds(rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return series that rise or fall, as their kind says, at the end of every round; and new ones.

    A look-back of eight rows has mostly not seen which.
    """
    parts = []
    for number in range(40):
        step = 2.0 if number % 2 == 0 else -2.0
        late = np.arange(60) % 20 >= 16
        own = _series(number, y=rng.normal() + step * late + 0.3 * rng.normal(size=60))
        clock = (np.arange(60) % 20 // 4).astype(str)
        parts.append(own.assign(x="up" if step > 0 else "down", clock=clock))
    return pd.concat(parts[:30]), pd.concat(parts[30:])


def _errors(early: pd.DataFrame, late: pd.DataFrame, role: str, **settings: Any) -> list[float]:
    """Return the squared errors without and with the column ``x`` in a role."""
    return [
        -TitansForecaster(**{**SMALL, **settings, role: columns}).fit(early).score(late)
        for columns in ((), ("x",))
    ]


@pytest.mark.slow
def test_what_is_known_ahead_lowers_the_error() -> None:
    without, beside = _errors(*_planned(np.random.default_rng(0)), "future", max_epochs=6)
    assert beside < 0.3 * without


@pytest.mark.slow
def test_what_was_measured_beside_the_past_lowers_the_error() -> None:
    without, beside = _errors(*_echoed(np.random.default_rng(0)), "past", max_epochs=40)
    assert beside < 0.5 * without


@pytest.mark.slow
def test_what_a_series_is_lowers_the_error_of_series_never_seen() -> None:
    early, late = _of_two_kinds(np.random.default_rng(0))
    without, beside = _errors(
        early, late, "static", max_epochs=10, context_length=8, future=("clock",)
    )
    assert beside < 0.7 * without


def _days(rows: int, size: npt.NDArray[np.float64], rng: np.random.Generator) -> pd.DataFrame:
    """Return hourly rows whose days have one shape, and are as large as the week says."""
    hours = np.arange(rows)
    day = rng.normal(size=24)[hours % 24] * size[hours // 168]
    times = pd.date_range("2024-01-01", periods=rows, freq="h")
    return pd.DataFrame({"ds": times, "y": day + 0.02 * rng.normal(size=rows)})


@pytest.mark.slow
def test_the_day_is_as_large_as_the_look_back_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained on large days, asked about small ones; a look-back of 16 hours, no whole day."""
    rng = np.random.default_rng(0)
    frame = _days(168 * 8, np.r_[rng.uniform(1, 3, 6), rng.uniform(0.2, 0.4, 2)], rng)
    settings = {**SMALL, "horizon": 12, "context_length": 16, "max_epochs": 8}

    def error() -> float:
        forecaster = TitansForecaster(**settings).fit(frame[: 168 * 6])
        found = forecaster.forecast_windows(frame, start=168 * 6 + 16, end=168 * 8)
        return float(((found.point - found.actual) ** 2).mean())

    scaled = error()
    monkeypatch.setattr(start, "solve_profiles", lambda *_: None)  # learnt by gradient
    monkeypatch.setattr(start, "SOLVED_RATE", 1.0)
    assert scaled < 0.4 * error()
