"""Made-up series: repeatable, of every kind, whole, and as varied as they claim to be."""

from __future__ import annotations

import builtins
import io
from typing import Any

import numpy as np
import pytest

from titans_seq.exceptions import ConfigError
from titans_seq.forecasting.pretraining import components as parts
from titans_seq.forecasting.pretraining.generator import SERIES_KINDS, SeriesGenerator


@pytest.mark.parametrize("steps", [16, 33, 400])
@pytest.mark.parametrize("name", SERIES_KINDS)
def test_every_kind_gives_finite_series_that_differ(name: str, steps: int) -> None:
    values = SERIES_KINDS[name][0](np.random.default_rng(0), 30, steps)
    assert values.shape == (30, steps)
    assert np.isfinite(values).all()
    assert len(np.unique(values.round(9), axis=0)) > 20


@pytest.mark.parametrize("name", SERIES_KINDS)
def test_one_series_can_be_drawn(name: str) -> None:
    assert SeriesGenerator(40, kinds=(name,)).draw(1).values.shape == (1, 40)


def test_the_same_seed_gives_the_same_batches() -> None:
    first, second, other = (SeriesGenerator(64, seed=seed) for seed in (5, 5, 6))
    for _ in range(2):
        one, two = first.draw(20), second.draw(20)
        np.testing.assert_array_equal(one.values, two.values)
        np.testing.assert_array_equal(one.observed, two.observed)
        assert one.kinds == two.kinds
    assert not np.array_equal(first.draw(20).values, other.draw(20).values)


def test_batches_go_on_without_repeating() -> None:
    generator = SeriesGenerator(64)
    assert not np.array_equal(generator.draw(8).values, generator.draw(8).values)


def test_kinds_come_in_their_shares() -> None:
    drawn = SeriesGenerator(16).draw(4000).kinds
    total = sum(share for _, share in SERIES_KINDS.values())
    assert total == pytest.approx(1.0)
    for name, (_, share) in SERIES_KINDS.items():
        assert drawn.count(name) / len(drawn) == pytest.approx(share, abs=0.025)


def test_some_series_begin_late_and_some_have_gaps() -> None:
    whole = SeriesGenerator(80, short=0.0, gaps=0.0).draw(50)
    assert whole.observed.all()
    late = SeriesGenerator(80, short=1.0, gaps=0.0).draw(200).observed
    begins = late.argmax(axis=1)
    assert begins.max() < 60
    assert np.unique(begins).size > 30
    assert all(row[begin:].all() for row, begin in zip(late, begins, strict=True))
    gappy = SeriesGenerator(80, short=0.0, gaps=1.0).draw(200)
    assert (~gappy.observed).any(axis=1).mean() > 0.9
    assert (gappy.values[~gappy.observed] == 0).all()


def test_no_file_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*path: Any, **options: Any) -> Any:
        raise AssertionError(f"a file was opened: {path}")

    generator = SeriesGenerator(64)
    monkeypatch.setattr(builtins, "open", refuse)
    monkeypatch.setattr(io, "open", refuse)
    assert np.isfinite(generator.draw(100).values).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kinds": ("additve",)}, r"unknown kinds \['additve'\]; there are additive, "),
        ({"steps": 15}, "steps must be at least 16, got 15"),
        ({"short": 1.5}, "short must be between 0 and 1, got 1.5"),
        ({"gaps": -0.1}, "gaps must be between 0 and 1, got -0.1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SeriesGenerator(**{"steps": 64, **settings})


def test_a_season_repeats_with_its_period() -> None:
    period = np.array([[12.0], [7.0], [30.0]] * 10)
    values = parts.seasonal_shape(np.random.default_rng(0), 30, 120, period)
    for row, (own,) in zip(values, period.astype(int), strict=True):
        np.testing.assert_allclose(row[own:], row[:-own], atol=1e-9)


def test_counts_and_intermittent_demand_are_whole_numbers() -> None:
    for name in ("counts", "intermittent"):
        values = SERIES_KINDS[name][0](np.random.default_rng(0), 40, 100)
        assert (values >= 0).all()
        np.testing.assert_array_equal(values, values.round())
    assert (values == 0).mean() > 0.4


def test_autoregression_follows_its_recurrence() -> None:
    rng = np.random.default_rng(0)
    innovations, coefficient = rng.normal(size=(3, 20)), np.array([[0.5], [0.0], [-0.9]])
    found = parts.autoregression(innovations, coefficient)
    for row, own, (factor,) in zip(found, innovations, coefficient, strict=True):
        last = 0.0
        for value, innovation in zip(row, own, strict=True):
            last = factor * last + innovation
            assert value == pytest.approx(last)


def test_events_come_back_as_they_were() -> None:
    (series,) = parts.recurring_events(np.random.default_rng(3), 1, 4000, kinds=2)
    length = 12  # shorter than an event may be
    begins = [t for t in range(1, 3900) if series[t - 1] == 0 and series[t] != 0]
    starts = np.stack([series[t : t + length] for t in begins])
    distances = np.abs(starts[:, None] - starts[None]).max(axis=2)
    returned = (distances < 1e-9).sum(axis=1) > 1
    assert len(begins) > 20
    assert returned.mean() > 0.9


def test_slots_of_a_walking_season_walk_by_themselves() -> None:
    values = parts.walking_slots(np.random.default_rng(0), 200, 24 * 50, 24)
    moves = np.diff(values.reshape(200, 50, 24), axis=1)
    together = (moves[..., 0] * moves[..., 1]).mean() / (moves**2).mean()
    assert abs(together) < 0.05
