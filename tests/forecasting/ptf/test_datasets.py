"""Every shape of data set: the model trains on it, each parameter learns, forecasts are finite."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer
from pytorch_forecasting import TimeSeriesDataSet
from pytorch_forecasting.data import (
    EncoderNormalizer,
    GroupNormalizer,
    MultiNormalizer,
    NaNLabelEncoder,
)
from pytorch_forecasting.metrics import CrossEntropy, MultiLoss, QuantileLoss

from titans_seq.forecasting.ptf import TitansForecastModel

NONE: dict[str, Any] = {
    "static_categoricals": [], "static_reals": [], "time_varying_known_reals": [],
    "time_varying_known_categoricals": [], "variable_groups": {},
    "time_varying_unknown_reals": ["sold"], "time_varying_unknown_categoricals": [],
    "add_relative_time_idx": False, "add_encoder_length": False,
}  # fmt: skip

SHAPES: dict[str, dict[str, Any]] = {
    "nothing but the target": NONE,
    "not even the target's past": NONE | {"time_varying_unknown_reals": []},
    "static": NONE | {"static_categoricals": ["shop"], "static_reals": ["area"]},
    "known": NONE | {"time_varying_known_reals": ["plan"]},
    "known categories": NONE | {"time_varying_known_categoricals": ["day"]},
    "unknown": NONE | {"time_varying_unknown_reals": ["sold", "price"]},
    "unknown categories": NONE | {"time_varying_unknown_categoricals": ["sky"]},
    "grouped categories": NONE
    | {
        "time_varying_known_categoricals": ["days_out"],
        "variable_groups": {"days_out": ["fair", "feast"]},
    },
    "every role": {},
    "full windows": {"min_encoder_length": 16, "min_prediction_length": 5},
    "one row behind, one ahead": {
        "max_encoder_length": 1, "min_encoder_length": 1,
        "max_prediction_length": 1, "min_prediction_length": 1,
    },
    "no row behind": {
        "min_encoder_length": 0, "target_normalizer": GroupNormalizer(groups=["shop"]),
    },
    "random lengths": {"randomize_length": True},
    "scales of the target": {"add_target_scales": True},
    "lags": {"lags": {"sold": [7]}},
    "weights": {"weight": "trust"},
    "categories that may be new": {"categorical_encoders": {"sky": NaNLabelEncoder(add_nan=True)}},
    "several targets": {"target": ["sold", "price"]},
    "targets of two kinds": {
        "target": ["sold", "sky"],
        "target_normalizer": MultiNormalizer([EncoderNormalizer(), NaNLabelEncoder()]),
    },
}  # fmt: skip


class Shaped(NamedTuple):
    """A data set of one shape."""

    name: str
    dataset: TimeSeriesDataSet


@pytest.fixture(scope="module", params=SHAPES)
def shaped(request: pytest.FixtureRequest, make_dataset: Any) -> Shaped:
    return Shaped(request.param, make_dataset(**SHAPES[request.param]))


def _losses(name: str) -> dict[str, Any]:
    if name == "targets of two kinds":
        return {"loss": MultiLoss([QuantileLoss([0.1, 0.5, 0.9]), CrossEntropy()])}
    return {}


def _loss(model: TitansForecastModel, x: dict[str, Any], y: Any) -> torch.Tensor:
    """Return the loss over the steps that every window of a batch has."""
    out = model(x)["prediction"]
    steps = int(x["decoder_lengths"].min())
    if isinstance(out, list):
        cut = [one[:, :steps].contiguous() for one in y[0]]
        return model.loss([one[:, :steps].contiguous() for one in out], (cut, None))
    weight = None if y[1] is None else y[1][:, :steps]
    return model.loss(out[:, :steps], (y[0][:, :steps], weight))


def test_each_parameter_learns_from_every_shape(
    shaped: Shaped, make_model: Any, batch_of: Any
) -> None:
    model = make_model(shaped.dataset, dropout=0.0, **_losses(shaped.name))
    x, y = batch_of(shaped.dataset, 32)
    loss = _loss(model, x, y)
    assert torch.isfinite(loss)
    loss.backward()
    silent = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    assert silent == []
    first = float(loss.detach())
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(5):
        optimizer.zero_grad()
        loss = _loss(model, x, y)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < first


@pytest.mark.slow
def test_the_host_trains_and_predicts_on_every_shape(shaped: Shaped, quiet: dict[str, Any]) -> None:
    dataset = shaped.dataset
    model = TitansForecastModel.from_dataset(
        dataset, dim=8, heads=2, patch_length=4, learning_rate=0.01, **_losses(shaped.name)
    )
    trainer = Trainer(max_epochs=1, limit_train_batches=2, limit_val_batches=1, **quiet)
    trainer.fit(
        model,
        dataset.to_dataloader(train=True, batch_size=16),
        dataset.to_dataloader(train=False, batch_size=16),
    )
    assert torch.isfinite(trainer.callback_metrics["train_loss"])
    assert torch.isfinite(trainer.callback_metrics["val_loss"])
    found = model.predict(
        dataset, return_decoder_lengths=True, trainer_kwargs={"accelerator": "cpu"}
    )
    outputs = found.output if isinstance(found.output, list) else [found.output]
    for one in outputs:
        steps = torch.arange(one.shape[1]) < found.decoder_lengths[:, None]
        assert len(one) == len(dataset)
        assert torch.isfinite(one[steps].float()).all()


def test_missing_steps_are_filled_and_read(
    make_dataset: Any, make_model: Any, batch_of: Any, rows: pd.DataFrame
) -> None:
    gaps = rows[(rows["time_idx"] % 11 != 5) | (rows["shop"] == "c")]
    dataset = make_dataset(gaps, allow_missing_timesteps=True)
    x, _ = batch_of(dataset)
    assert torch.isfinite(make_model(dataset)(x)["prediction"]).all()


def test_constant_series_keep_their_value(
    make_dataset: Any, make_model: Any, batch_of: Any, rows: pd.DataFrame
) -> None:
    flat = rows.assign(sold=7.0)
    dataset = make_dataset(flat)
    model, (x, y) = make_model(dataset), batch_of(dataset)
    prediction = model(x)["prediction"]
    torch.testing.assert_close(prediction, torch.full_like(prediction, 7.0), atol=0.05, rtol=0)
    loss = _loss(model, x, y)
    loss.backward()
    assert all(torch.isfinite(one.grad).all() for one in model.parameters() if one.grad is not None)


def test_a_new_series_is_forecast_with_and_without_a_past(
    make_dataset: Any, make_model: Any, rows: pd.DataFrame
) -> None:
    encoders = {"shop": NaNLabelEncoder(add_nan=True)}
    dataset = make_dataset(rows[rows["shop"] != "c"], categorical_encoders=encoders,
                           min_encoder_length=0, target_normalizer=GroupNormalizer(groups=["shop"]),
                           predict_mode=False)  # fmt: skip
    model = make_model(dataset)
    new = rows[rows["shop"] == "c"].assign(shop="z")
    for frame in (new, new.tail(5)):
        fresh = TimeSeriesDataSet.from_dataset(dataset, frame, predict=True)
        found = model.predict(fresh, trainer_kwargs={"accelerator": "cpu"})
        assert found.shape == (1, 5)
        assert torch.isfinite(found).all()


def test_a_new_category_is_a_vector_of_zeros(make_dataset: Any, quiet: dict[str, Any]) -> None:
    encoders = {name: NaNLabelEncoder(add_nan=True) for name in ("shop", "day", "sky")}
    dataset = make_dataset(categorical_encoders=encoders)
    model = TitansForecastModel.from_dataset(
        dataset, dim=8, heads=2, learning_rate=0.01, weight_decay=0.1
    )
    Trainer(max_epochs=1, limit_train_batches=2, **quiet).fit(
        model, dataset.to_dataloader(train=True, batch_size=16)
    )
    network = model.networks[0]
    for codes in (
        network.static_codes, network.past_codes, network.future_codes, network.effect.codes,
    ):  # fmt: skip
        assert not codes.tables[0].weight[0].any()
        assert codes.tables[0].weight[1:].any()
    assert network.future_codes.tables[1].weight[0].any()  # days_out has no new categories


def test_a_known_variable_may_be_kept_out_of_the_encoder(
    make_dataset: Any, make_model: Any, batch_of: Any
) -> None:
    dataset = make_dataset()
    x, _ = batch_of(dataset)
    model = make_model(dataset, allowed_encoder_known_variable_names=["day", "relative_time_idx"])
    expected = model(x)["prediction"]
    changed = x["encoder_cont"].clone()
    changed[..., dataset.reals.index("plan")] += 1
    torch.testing.assert_close(model({**x, "encoder_cont": changed})["prediction"], expected)
    changed = x["decoder_cont"].clone()
    changed[..., dataset.reals.index("plan")] += 1
    assert not torch.allclose(model({**x, "decoder_cont": changed})["prediction"], expected)


def test_weights_change_what_is_learned(
    make_dataset: Any, make_model: Any, batch_of: Any, rows: pd.DataFrame
) -> None:
    gradients = []
    for trust in (np.ones(len(rows)), np.where(rows["shop"] == "a", 5.0, 0.1)):
        dataset = make_dataset(rows.assign(trust=trust), weight="trust")
        model, (x, y) = make_model(dataset), batch_of(dataset)
        _loss(model, x, y).backward()
        gradients.append(model.networks[0].linear.weight.grad)
    assert not torch.allclose(*gradients, rtol=0.1)
