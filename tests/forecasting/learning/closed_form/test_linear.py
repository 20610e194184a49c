from __future__ import annotations

import torch

from titans_seq.forecasting.learning.closed_form.linear import solve_linear as solve
from titans_seq.forecasting.learning.windows import WindowBatch
from titans_seq.forecasting.network.config import NetworkConfig
from titans_seq.forecasting.network.network import ForecastNetwork, Windows

CONTEXT, HORIZON = 6, 3


def solve_linear(
    network: ForecastNetwork, batches: list[WindowBatch], validation: list[WindowBatch]
) -> torch.Tensor:
    return solve(network, network.linear.weight.detach().clone(), batches, validation)


def _network() -> ForecastNetwork:
    torch.manual_seed(0)
    return ForecastNetwork(
        NetworkConfig(context_length=CONTEXT, horizon=HORIZON, dim=8, heads=2, normalise="none")
    )


def _batch(weight: torch.Tensor, noise: float, seed: int, count: int = 400) -> WindowBatch:
    """Return windows whose horizon is a linear map of the look-back."""
    source = torch.Generator().manual_seed(seed)
    history = torch.randn(count, CONTEXT, generator=source)
    target = history @ weight.T + noise * torch.randn(count, HORIZON, generator=source)
    none, rows = torch.zeros(count, CONTEXT, 0), torch.zeros(count, CONTEXT + HORIZON, 0)
    static = torch.zeros(count, 0)
    seen = torch.ones(count, CONTEXT, dtype=torch.bool)
    windows = Windows(history, seen, none, none.long(), rows, rows.long(), static, static.long())
    return WindowBatch(windows, target, torch.ones_like(target, dtype=torch.bool))


def test_finds_the_map_that_the_windows_follow() -> None:
    network, weight = _network(), torch.randn(HORIZON, CONTEXT)
    solve_linear(
        network, [_batch(weight, 0.01, 0), _batch(weight, 0.01, 1)], [_batch(weight, 0.01, 2)]
    )
    torch.testing.assert_close(network.linear.weight.detach(), weight, atol=0.02, rtol=0)


def test_windows_that_were_not_seen_whole_do_not_count() -> None:
    network, weight = _network(), torch.randn(HORIZON, CONTEXT)
    spoilt = _batch(weight, 0.01, 1)
    spoilt = spoilt._replace(target=spoilt.target + 100, target_seen=torch.rand(400, HORIZON) < 0)
    solve_linear(network, [_batch(weight, 0.01, 0), spoilt], [_batch(weight, 0.01, 2)])
    torch.testing.assert_close(network.linear.weight.detach(), weight, atol=0.02, rtol=0)


def test_keeps_the_last_value_where_nothing_forecasts_better() -> None:
    network, walk = _network(), torch.zeros(HORIZON, CONTEXT)
    walk[:, -1] = 1.0
    before = network.linear.weight.detach().clone()
    few = _batch(torch.randn(HORIZON, CONTEXT), 1.0, 0, count=8)
    solve_linear(network, [few], [_batch(walk, 0.1, 1)])
    torch.testing.assert_close(network.linear.weight.detach(), before)


def test_no_window_at_all_leaves_the_weights_as_they_were() -> None:
    network = _network()
    before = network.linear.weight.detach().clone()
    solve_linear(network, [_batch(torch.ones(HORIZON, CONTEXT), 0.1, 0, count=0)], [])
    torch.testing.assert_close(network.linear.weight.detach(), before)
