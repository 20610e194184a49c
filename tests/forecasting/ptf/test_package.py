"""The library's own test suite on our model, offline."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from lightning.pytorch.loggers import Logger
from pytorch_forecasting.models import TemporalFusionTransformer
from pytorch_forecasting.tests import _data_scenarios as scenarios
from pytorch_forecasting.tests import test_all_estimators as suite
from pytorch_forecasting.tests._loss_mapping import get_compatible_losses
from pytorch_forecasting.utils import check_estimator

from titans_seq.forecasting.ptf import TitansForecastModel

DAYS = (
    "easter_day", "good_friday", "new_year", "christmas", "labor_day", "independence_day",
    "revolution_day_memorial", "regional_games", "fifa_u_17_world_cup", "football_gold_cup",
    "beer_capital", "music_fest",
)  # fmt: skip


def _sales() -> pd.DataFrame:
    """Return rows with the columns of the frame that the suite would download."""
    rng = np.random.default_rng(0)
    dates = pd.date_range("2013-01-01", "2017-12-01", freq="MS")
    step = np.arange(len(dates))
    parts = []
    for number, (agency, sku) in enumerate((a, s) for a in range(3) for s in range(3)):
        price = 1000 + 50 * rng.normal(size=len(dates))
        parts.append(
            pd.DataFrame(
                {
                    "agency": f"Agency_{agency}",
                    "sku": f"SKU_{sku}",
                    "date": dates,
                    "volume": np.exp(0.4 * rng.normal(size=len(dates))) * (0.5 + agency + sku),
                    "industry_volume": rng.integers(4e8, 6e8, len(dates)),
                    "soda_volume": rng.integers(7e8, 9e8, len(dates)),
                    "avg_max_temp": 20 + 5 * np.sin(step / 2),
                    "price_regular": price,
                    "price_actual": 0.9 * price,
                    "discount": 0.1 * price,
                    "discount_in_percent": 10.0,
                    "timeseries": number,
                    **{day: rng.integers(0, 2, len(dates)) for day in DAYS},
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


class _Board:
    """Takes what a TensorBoard writer takes, and counts it."""

    def __init__(self) -> None:
        self.histograms = 0

    def add_histogram(self, **_: Any) -> None:
        self.histograms += 1

    def add_figure(self, *_: Any, **__: Any) -> None:
        pass


class _Counting(Logger):
    """Stands in for the suite's TensorBoard logger."""

    boards: list[_Board]

    def __init__(self, _: Any) -> None:
        super().__init__()
        self.experiment = _Board()
        self.boards.append(self.experiment)

    name = "counting"
    version = 0

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        pass

    def log_metrics(self, *_: Any, **__: Any) -> None:
        pass


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[_Board]:
    """Let the suite run without its download and its logger; return what was logged to."""
    _Counting.boards = []
    monkeypatch.setattr(scenarios, "get_stallion_data", _sales)
    monkeypatch.setattr(suite, "TensorBoardLogger", _Counting)
    return _Counting.boards


def _losses() -> list[str]:
    tags = (TitansForecastModel.pkg.get_class_tag(f"info:{kind}_type") for kind in ("pred", "y"))
    return [type(loss).__name__ for loss in get_compatible_losses(*tags)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "losses"), [(0, _losses()), (1, _losses()[::2]), (2, _losses()[1::2])]
)
def test_the_host_s_integration_test_passes_for_every_loss(
    offline: list[_Board], number: int, losses: list[str]
) -> None:
    results: dict[str, Any] = {}
    for loss in losses:
        fixture = f"test_integration[TitansForecastModel_pkg-base_params-{number}-{loss}]"
        results |= check_estimator(TitansForecastModel, fixtures_to_run=fixture, verbose=0)
    assert {name: found for name, found in results.items() if found != "PASSED"} == {}
    assert len(results) == len(offline) == len(losses)
    assert all(board.histograms for board in offline)


def test_every_loss_of_the_host_and_all_our_settings_are_tried() -> None:
    assert len(_losses()) == 15
    assert len(TitansForecastModel.pkg.get_base_test_params()) == 3


def test_the_host_finds_its_way_between_model_and_package(offline: list[_Board]) -> None:
    results = check_estimator(
        TitansForecastModel, tests_to_run=["test_pkg_linkage", "test_doctest_examples"], verbose=0
    )
    assert results
    assert set(results.values()) == {"PASSED"}
    package = TitansForecastModel.pkg
    assert package.get_cls() is TitansForecastModel
    assert package.__name__ == package.get_class_tag("info:name") + "_pkg"


def test_the_package_knows_every_tag_that_the_host_s_packages_know() -> None:
    theirs = set(TemporalFusionTransformer.pkg.get_class_tags())
    assert theirs <= set(TitansForecastModel.pkg.get_class_tags())
    assert TitansForecastModel.pkg.get_class_tag("tests:skip_by_name") is None
