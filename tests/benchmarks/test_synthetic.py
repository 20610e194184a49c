"""Synthetic streams: their optimal forecasts are optimal, their anomalies are where stated."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic.anomalies import NOISE, anomalous_series
from synthetic.streams import (
    ERA,
    EVENT,
    EVENT_KINDS,
    EVENT_NOISE,
    HORIZON,
    LEVELS,
    MIN_OTHERS,
    QUIET,
    WINDOW,
    KnownStream,
    drift_stream,
    filtered_levels,
    recall_stream,
)


def _cutoffs(stream: KnownStream, stride: int) -> np.ndarray:
    return np.arange(stream.score_begin, len(stream.values) - HORIZON + 1, stride)


@pytest.fixture(scope="module")
def streams() -> dict[str, KnownStream]:
    return {
        "recall": recall_stream(ERA, 4000, 0),
        "drift": drift_stream(2400, 2400, 0),
        "jumps": drift_stream(2400, 2400, 0, jump=0.05),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["recall", "drift", "jumps"])
def test_the_optimal_forecast_beats_the_window_and_others(
    streams: dict[str, KnownStream], name: str
) -> None:
    stream = streams[name]
    cutoffs = _cutoffs(stream, 7)
    assert stream.skill(cutoffs, stream.best(cutoffs)) == pytest.approx(1)
    assert stream.skill(cutoffs, stream.window(cutoffs)) == pytest.approx(0)
    behind = np.arange(-WINDOW, 0).reshape(-1, LEVELS).T
    mean = stream.values[cutoffs[:, None, None] + behind].mean(-1)
    assert stream.skill(cutoffs, mean) < 0


def test_an_event_returns_only_after_others_beyond_the_window() -> None:
    values = recall_stream(0 + ERA, ERA, 1).values[:ERA]
    whole = values.reshape(-1, EVENT + QUIET)[:, :EVENT]
    alike = np.corrcoef(whole) > 0.8
    for event in range(1, len(whole)):
        before = np.flatnonzero(alike[event, :event])
        assert not len(before) or event - before[-1] > MIN_OTHERS
    assert (MIN_OTHERS + 1) * (EVENT + QUIET) > WINDOW + HORIZON
    assert alike.sum(1).max() > 2
    assert len(np.unique(alike, axis=0)) == EVENT_KINDS


def test_events_of_the_test_part_were_not_in_the_training_part() -> None:
    values = recall_stream(ERA, ERA, 2).values
    events = values.reshape(-1, EVENT + QUIET)[:, :EVENT]
    first, second = np.split(events, 2)
    assert np.abs(np.corrcoef(first, second)[: len(first), len(first) :]).max() < 0.6


def test_optimal_recall_of_a_known_event_errs_by_its_noise_alone(
    streams: dict[str, KnownStream],
) -> None:
    stream = streams["recall"]
    first = stream.test_begin + 30 * (EVENT + QUIET) + EVENT // 2
    cutoffs = np.arange(first, len(stream.values) - EVENT, EVENT + QUIET)
    error = np.mean((stream.best(cutoffs) - stream.target(cutoffs)) ** 2)
    assert error == pytest.approx(EVENT_NOISE**2, rel=0.3)


def test_filtered_levels_are_kalman_means_where_nothing_jumps() -> None:
    values = np.random.default_rng(0).standard_normal(3 * LEVELS)
    walk, variance = 0.3, 4.0
    means = filtered_levels(values, walk=walk, jump=0.0)
    level, spread = 0.0, variance
    for value in values[5::LEVELS]:
        spread += walk**2
        level += spread / (spread + 1) * (value - level)
        spread /= spread + 1
    assert means[-1, 5] == pytest.approx(level)


def test_a_jump_is_followed_once_it_shows() -> None:
    profile = np.array([[3.0, -3.0] * (LEVELS // 2)])
    values = np.concatenate([np.tile(profile, 20).ravel(), np.tile(-profile, 2).ravel()])
    still = filtered_levels(values, walk=0.05, jump=0.0)[-1]
    moved = filtered_levels(values, walk=0.05, jump=0.03)[-1]
    assert np.abs(moved + profile[0]).max() < 0.6
    assert np.abs(still + profile[0]).max() > 3


def test_anomalies_are_where_the_masks_say() -> None:
    series = anomalous_series(4000, 2000, 0)
    assert not (series.point | series.contextual)[:2000].any()
    assert not (series.point & series.contextual).any()
    assert series.point.sum() == 40
    assert 20 < series.contextual.sum() <= 40
    usual = series.values[:2000].reshape(-1, 1)
    low, high = usual.min() - 3 * NOISE, usual.max() + 3 * NOISE
    assert (
        (series.values[series.contextual] > low) & (series.values[series.contextual] < high)
    ).all()
