"""The benchmark of streams on tiny sizes; it uses public names alone."""

from __future__ import annotations

import re
from pathlib import Path

import forecast_streams
import pytest
from synthetic.streams import drift_stream

SMALL = {"dim": 8, "max_epochs": 1, "quantiles": ()}


@pytest.mark.slow
def test_skill_is_measured_with_the_memory_carried_and_reset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(
        forecast_streams.STREAMS, "drift", lambda seed: drift_stream(400, 600, seed)
    )
    found = forecast_streams.measure_skill("drift", 0, **SMALL)
    assert set(found) == {"carried", "carried_some", "reset_some"}
    assert all(value < 1.5 for value in found.values())


@pytest.mark.slow
def test_cost_is_measured_early_and_late() -> None:
    found = forecast_streams.measure_cost(300, turns=2)
    assert found["bytes_early"] == found["bytes_late"] > 0
    assert found["restored_equal"] == 1
    for name in ("row", "of_many"):
        assert found[f"ms_{name}_early"] > 0
        assert found[f"ms_{name}_late"] > 0


def test_seeds_are_summed_up_by_their_median() -> None:
    found = {"jumps/0": {"carried": 0.1}, "jumps/1": {"carried": 0.7}, "jumps/2": {"carried": 0.6}}
    assert forecast_streams.medians(found) == {"jumps": {"carried": 0.6}}


def test_it_is_measured_through_what_a_user_has() -> None:
    source = Path(forecast_streams.__file__).read_text("utf-8")
    assert not re.search(r"(forecaster|stream|early|late)\._", source)
