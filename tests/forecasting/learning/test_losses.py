from __future__ import annotations

import torch

from titans_seq.forecasting.learning.losses import pinball_error, training_loss
from titans_seq.forecasting.learning.windows import WindowBatch
from titans_seq.forecasting.network.config import NetworkConfig
from titans_seq.forecasting.network.network import Forecast, ForecastNetwork, Windows


def _network() -> ForecastNetwork:
    torch.manual_seed(0)
    config = NetworkConfig(
        context_length=13, horizon=7, patch_length=4, dim=8, layers=1, heads=2, dropout=0.0,
        quantiles=(0.1, 0.9), past_reals=2, past_cardinalities=(4,), future_reals=1,
        future_cardinalities=(4, 4), static_reals=1, static_cardinalities=(4, 4),
    )  # fmt: skip
    network = ForecastNetwork(config).train()
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return network


def test_pinball_is_the_larger_of_both_slopes_where_something_was_seen() -> None:
    torch.manual_seed(0)
    target, quantiles = torch.randn(3, 4), torch.randn(3, 4, 2, requires_grad=True)
    seen = torch.rand(3, 4) < 0.7
    level = torch.tensor([0.1, 0.6])
    error = (target[..., None] - quantiles) * seen[..., None]
    wanted = torch.maximum(level * error, (level - 1) * error).mean(-1).sum()
    found = pinball_error(Forecast(target, quantiles, target), target, seen, (0.1, 0.6))
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(
        torch.autograd.grad(found, quantiles), torch.autograd.grad(wanted, quantiles)
    )


def test_the_linear_part_learns_as_if_there_were_no_backbone(windows: Windows) -> None:
    network = _network()
    batch = WindowBatch(windows, torch.randn(5, 7), torch.rand(5, 7) < 0.8)
    alone = (network.baseline(windows).expected() - batch.target).square() * batch.target_seen
    weights = [network.linear.weight, *network.effect.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad(training_loss(network, batch), weights),
        torch.autograd.grad(alone.sum() / batch.target_seen.sum(), weights),
    )


def test_every_weight_learns_from_one_batch(windows: Windows) -> None:
    network = _network()
    training_loss(
        network, WindowBatch(windows, torch.randn(5, 7), torch.ones(5, 7).bool())
    ).backward()
    assert [name for name, one in network.named_parameters() if one.grad is None] == []
