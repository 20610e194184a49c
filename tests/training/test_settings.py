from __future__ import annotations

from typing import Any

import pytest
import torch

from titans_seq.exceptions import ConfigError, DeviceError
from titans_seq.training import TrainSettings, pick_device, seeded


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("schedule", "linear"),
        ("warmup_fraction", 1.0),
        ("warmup_fraction", -0.1),
        ("weight_decay", -1.0),
        ("max_epochs", 0),
        ("patience", 0),
        ("max_steps", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("gradient_clip", 0.0),
        ("max_seconds", -1.0),
    ],
)
def test_a_setting_outside_its_range_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"TrainSettings.{name} must be"):
        TrainSettings(**{"max_epochs": 1, name: value})


def test_the_processor_is_always_there() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["quantum", "cuda:99", "meta", ""])
def test_a_device_that_is_not_there_is_refused_by_name(name: str) -> None:
    with pytest.raises(DeviceError, match=f"device {name!r}: "):
        pick_device(name)


def test_seeded_draws_the_same_and_leaves_no_trace() -> None:
    before = torch.get_rng_state()
    draws = []
    for seed in (3, 3, 4):
        with seeded(seed):
            draws.append(torch.rand(5))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(before, torch.get_rng_state())
