from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from titans_seq.training import ParameterGroup, TrainSettings
from titans_seq.training.optimizer import build_optimizer, rate_factor, set_rate


class Grouped(nn.ModuleDict):
    def parameter_groups(self) -> list[ParameterGroup]:
        return [
            ParameterGroup(self["marked"].parameters(), weight_decay=False),
            ParameterGroup([self["plain"].bias], lr_scale=0.5),  # type: ignore[list-item]
        ]


def test_vectors_and_marked_parameters_do_not_decay_and_scales_multiply_the_rate() -> None:
    network = Grouped({"plain": nn.Linear(2, 3), "marked": nn.Linear(4, 5, bias=False)})
    frozen = nn.Linear(7, 7)
    frozen.requires_grad_(False)
    network["frozen"] = frozen
    optimizer = build_optimizer(network, TrainSettings(max_epochs=1, weight_decay=0.1))
    set_rate(optimizer.param_groups, 0.01)
    found = {
        tuple(parameter.shape): (group["weight_decay"], group["lr"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert found == {(3, 2): (0.1, 0.01), (3,): (0.0, 0.005), (5, 4): (0.0, 0.01)}


class Slow(nn.Linear):
    def parameter_groups(self) -> list[ParameterGroup]:
        return [ParameterGroup(self.parameters(), lr_scale=0.1)]


def test_the_outer_module_decides_where_two_name_a_parameter() -> None:
    network = Grouped({"plain": Slow(2, 3), "marked": nn.Linear(4, 5)})
    optimizer = build_optimizer(network, TrainSettings(max_epochs=1))
    scales = {id(p): group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}
    assert [scales[id(value)] for value in network["plain"].parameters()] == [0.1, 0.5]


def test_a_shared_parameter_is_stepped_once() -> None:
    network = nn.ModuleList([nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)])
    network[1].weight = network[0].weight
    optimizer = build_optimizer(network, TrainSettings(max_epochs=1))
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 1


@pytest.mark.parametrize("schedule", ["cosine", "constant", "halving"])
def test_the_rate_rises_first(schedule: str) -> None:
    settings = TrainSettings(max_epochs=4, schedule=schedule, warmup_fraction=0.2)  # type: ignore[arg-type]
    rising = [rate_factor(settings, done, 0) for done in (0.0, 0.05, 0.1, 0.2)]
    assert rising == sorted(rising)
    assert 0 < rising[0] < 0.01
    assert rising[2] == pytest.approx(0.5)
    assert rising[3] == pytest.approx(1.0)


def test_cosine_falls_to_zero_and_halving_halves() -> None:
    cosine = TrainSettings(max_epochs=4, warmup_fraction=0.0)
    assert rate_factor(cosine, 0.5, 2) == pytest.approx(0.5)
    assert rate_factor(cosine, 1.0, 4) == pytest.approx(0.0)
    halving = TrainSettings(max_epochs=4, warmup_fraction=0.0, schedule="halving")
    assert [rate_factor(halving, 0.1, epoch) for epoch in range(4)] == [1, 0.5, 0.25, 0.125]
    constant = TrainSettings(max_epochs=4, warmup_fraction=0.0, schedule="constant")
    assert rate_factor(constant, 0.9, 3) == 1


def test_one_step_is_adamw() -> None:
    mine, theirs = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    theirs.load_state_dict(mine.state_dict())
    settings = TrainSettings(max_epochs=1, learning_rate=0.1, weight_decay=0.3)
    ours = build_optimizer(mine, settings)
    plain = torch.optim.AdamW(theirs.parameters(), lr=0.1, weight_decay=0.3)
    for network, optimizer in ((mine, ours), (theirs, plain)):
        network(torch.full((1, 3), math.pi)).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(mine.weight, theirs.weight)
