"""The benchmark of adaptation on a small stream."""

from __future__ import annotations

import adaptation
import pytest


@pytest.mark.slow
def test_every_kind_is_scored_beside_the_best_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptation, "TRAIN_ROWS", 360)
    monkeypatch.setattr(adaptation, "TEST_ROWS", 720)
    found = adaptation.measure("drift", 0)
    assert set(found) == set(adaptation.KINDS)
    for figures in found.values():
        assert 0.8 < figures["best"] < figures["memory"]
        assert figures["adapted"] != figures["memory"]
