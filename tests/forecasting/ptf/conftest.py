"""Rows, data sets and models that the tests of the pytorch-forecasting room share."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip("pytorch_forecasting")

from pytorch_forecasting import TimeSeriesDataSet

from titans_seq.forecasting.ptf import TitansForecastModel

MakeDataset = Callable[..., TimeSeriesDataSet]
MakeModel = Callable[..., TitansForecastModel]


@pytest.fixture(autouse=True)
def _quiet_libraries() -> Iterator[None]:
    """Lightning and pytorch-forecasting warn of loaders and of each other."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(lightning|pytorch_forecasting)\.")
        yield


@pytest.fixture
def quiet() -> dict[str, Any]:
    """Settings of a trainer that writes and prints nothing."""
    return {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }


@pytest.fixture(scope="session")
def rows() -> pd.DataFrame:
    """Three series of 60 steps with a covariate of every kind; counts as target."""
    rng = np.random.default_rng(0)
    step = np.arange(60)
    parts = [
        pd.DataFrame(
            {
                "shop": name,
                "time_idx": step,
                "sold": (5 + 3 * np.sin(step / 5 + shift) + rng.normal(size=60)).round().clip(0),
                "price": rng.normal(size=60),
                "plan": np.cos(step / 3),
                "day": [str(number % 7) for number in step],
                "fair": np.where(rng.random(60) < 0.2, "fair", "-"),
                "feast": np.where(rng.random(60) < 0.2, "feast", "-"),
                "sky": rng.choice(["clear", "grey"], 60),
                "area": float(shift),
                "trust": rng.uniform(0.5, 2, size=60),
            }
        )
        for shift, name in enumerate("abc")
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="session")
def make_dataset(rows: pd.DataFrame) -> MakeDataset:
    """Return a data set of the rows, or of others, with every role filled by default."""

    def make(frame: pd.DataFrame = rows, **settings: Any) -> TimeSeriesDataSet:
        values = {
            "time_idx": "time_idx", "target": "sold", "group_ids": ["shop"],
            "max_encoder_length": 16, "min_encoder_length": 3,
            "max_prediction_length": 5, "min_prediction_length": 2,
            "static_categoricals": ["shop"], "static_reals": ["area"],
            "time_varying_known_reals": ["plan"],
            "time_varying_known_categoricals": ["day", "days_out"],
            "variable_groups": {"days_out": ["fair", "feast"]},
            "time_varying_unknown_reals": ["sold", "price"],
            "time_varying_unknown_categoricals": ["sky"],
            "add_relative_time_idx": True, "add_encoder_length": True,
        }  # fmt: skip
        return TimeSeriesDataSet(frame, **values | settings)

    return make


@pytest.fixture(scope="session")
def make_model() -> MakeModel:
    """Return a small model, not training, whose every output depends on every input."""

    def make(dataset: TimeSeriesDataSet, **settings: Any) -> TitansForecastModel:
        torch.manual_seed(0)
        values = {"dim": 8, "layers": 1, "heads": 2, "patch_length": 4}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            model = TitansForecastModel.from_dataset(dataset, **values | settings)
        for parameter in model.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.2)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def batch_of() -> Callable[..., tuple[dict[str, Any], Any]]:
    """Return the first batch of a data set, unshuffled."""

    def first(dataset: TimeSeriesDataSet, size: int = 200) -> tuple[dict[str, Any], Any]:
        batch: tuple[dict[str, Any], Any] = next(
            iter(dataset.to_dataloader(train=False, batch_size=size))
        )
        return batch

    return first
