from __future__ import annotations

import pytest
import torch

from titans_seq.exceptions import ConfigError
from titans_seq.forecasting.network.config import NetworkConfig
from titans_seq.forecasting.network.network import Forecast, ForecastNetwork, Windows

SIZES = {
    "past_reals": 2,
    "past_cardinalities": (4,),
    "future_reals": 1,
    "future_cardinalities": (4, 4),
    "static_reals": 1,
    "static_cardinalities": (4, 4),
}


def _network(**settings: object) -> ForecastNetwork:
    """Return a small network whose every output depends on every input."""
    torch.manual_seed(0)
    values = {"context_length": 13, "horizon": 7, "patch_length": 4, "dim": 16, "layers": 1,
              "heads": 2, "quantiles": (0.1, 0.5, 0.9), **SIZES, **settings}  # fmt: skip
    network = ForecastNetwork(NetworkConfig(**values))
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


def _differs(one: Forecast, two: Forecast) -> bool:
    return not torch.allclose(one.point, two.point, atol=1e-6)


def _same(one: Forecast, two: Forecast) -> None:
    torch.testing.assert_close(one.point, two.point, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(one.quantiles, two.quantiles, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("variant", ["mac", "mag", "mal", "lmm", "attention"])
def test_gives_point_and_rising_quantiles(windows: Windows, variant: str) -> None:
    forecast = _network(variant=variant)(windows)
    assert forecast.point.shape == (5, 7)
    assert forecast.quantiles.shape == (5, 7, 3)
    assert (forecast.quantiles.diff(dim=-1) > 0).all()


@pytest.mark.parametrize("normalise", ["mean", "last", "none"])
def test_rubbish_in_missing_cells_changes_nothing(windows: Windows, normalise: str) -> None:
    network = _network(normalise=normalise)
    rubbish = torch.where(windows.seen, windows.history, 1e3 * torch.randn(5, 13))
    _same(network(windows._replace(history=rubbish)), network(windows))


@pytest.mark.parametrize("variant", ["mac", "mag", "mal", "lmm"])
def test_the_neighbours_in_a_batch_change_nothing(windows: Windows, variant: str) -> None:
    network = _network(variant=variant)
    alone = network(Windows(*(part[2:3] for part in windows)))
    together = network(windows)
    _same(Forecast(*(part[2:3] for part in together)), alone)
    assert not torch.isnan(together.point).any()


@pytest.mark.parametrize("role", ["history", "past", "future", "static"])
def test_every_real_covariate_has_an_effect(windows: Windows, role: str) -> None:
    network = _network()
    changed = windows._replace(
        **{
            role: getattr(windows, role)
            + 1.5
            * torch.randn(getattr(windows, role).shape, generator=torch.Generator().manual_seed(1))
        }
    )
    assert _differs(network(changed), network(windows))


@pytest.mark.parametrize("role", ["past_codes", "future_codes", "static_codes"])
def test_every_category_has_an_effect(windows: Windows, role: str) -> None:
    network = _network()
    codes = getattr(windows, role)
    for column in range(codes.shape[-1]):
        changed = codes.clone()
        changed[..., column] = changed[..., column] % 3 + 1
        assert _differs(network(windows._replace(**{role: changed})), network(windows))


def test_covariates_of_a_step_ahead_reach_no_step_of_an_earlier_patch(windows: Windows) -> None:
    network = _network(variant="mag")
    future = windows.future.clone()
    future[:, 13 + 4 :] += 3
    one, two = network(windows._replace(future=future)), network(windows)
    torch.testing.assert_close(one.point[:, :4], two.point[:, :4])
    assert not torch.allclose(one.point[:, 4:], two.point[:, 4:])


def test_a_shifted_and_stretched_history_gives_a_forecast_shifted_and_stretched_alike() -> None:
    network = _network(**{name: type(size)() for name, size in SIZES.items()})
    empty = torch.zeros(5, 13, 0)
    codes = empty.long()
    plain = Windows(
        history=torch.randn(5, 13), seen=torch.ones(5, 13, dtype=torch.bool), past=empty,
        past_codes=codes, future=torch.zeros(5, 20, 0), future_codes=torch.zeros(5, 20, 0).long(),
        static=torch.zeros(5, 0), static_codes=torch.zeros(5, 0).long(),
    )  # fmt: skip
    before = network(plain)
    after = network(plain._replace(history=3 * plain.history + 7))
    torch.testing.assert_close(after.point, 3 * before.point + 7, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(after.quantiles, 3 * before.quantiles + 7, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", ["fixed", "scaled"])
def test_a_scaled_profile_grows_with_the_look_back(windows: Windows, kind: str) -> None:
    network = _network(
        past_reals=0, past_cardinalities=(), future_reals=0, future_cardinalities=(4,), cycle=0
    )
    assert network.cycle is not None
    other = network.cycle.fixed if kind == "scaled" else network.cycle.scaled
    torch.nn.init.zeros_(other)
    clock = windows._replace(
        past=torch.zeros(5, 13, 0), past_codes=torch.zeros(5, 13, 0).long(),
        future=torch.zeros(5, 20, 0), future_codes=windows.future_codes[..., :1],
    )  # fmt: skip
    before = network(clock)
    after = network(clock._replace(history=3 * clock.history + 7))
    expected = Forecast(3 * before.point + 7, 3 * before.quantiles + 7, before.extra)
    if kind == "scaled":
        torch.testing.assert_close(after.point, expected.point, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(after.quantiles, expected.quantiles, atol=1e-3, rtol=1e-3)
    else:
        assert (after.point - expected.point).abs().max() > 0.1


def test_a_series_that_was_never_seen_still_has_a_forecast(windows: Windows) -> None:
    nothing = windows._replace(seen=torch.zeros_like(windows.seen))
    assert torch.isfinite(_network()(nothing).point).all()


def test_every_weight_learns(windows: Windows) -> None:
    network = _network(extra_outputs=2).train()
    forecast = network(windows)
    (forecast.point.sum() + forecast.quantiles.square().sum() + forecast.extra.sum()).backward()
    idle = [name for name, weight in network.named_parameters() if weight.grad is None]
    assert idle == []


def test_the_unknown_category_is_the_mean_of_the_known() -> None:
    network = _network()
    network.settle_unknown()
    (table, *_) = network.static_codes.tables
    torch.testing.assert_close(table.weight[0], table.weight[1:].mean(dim=0))


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ({"horizon": 0}, "horizon must be at least 1, got 0"),
        ({"quantiles": (0.9, 0.1)}, "rising levels"),
        ({"quantiles": (0.0, 0.5)}, "rising levels"),
        ({"normalise": "max"}, "normalise must be mean, last or none"),
        ({"cycle": 0}, "of which there are 0, and needs a static category"),
    ],
)
def test_refuses_settings_that_cannot_be(setting: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        NetworkConfig(**{"context_length": 8, "horizon": 2, **setting})
