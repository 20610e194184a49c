"""Every family of losses: it is learned, and every way to predict gives what it should."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer
from pytorch_forecasting.data import (
    EncoderNormalizer,
    GroupNormalizer,
    MultiNormalizer,
    NaNLabelEncoder,
)
from pytorch_forecasting.metrics import (
    MAE,
    MASE,
    RMSE,
    SMAPE,
    BetaDistributionLoss,
    CrossEntropy,
    ImplicitQuantileNetworkDistributionLoss,
    LogNormalDistributionLoss,
    MultiLoss,
    MultivariateNormalDistributionLoss,
    NegativeBinomialDistributionLoss,
    NormalDistributionLoss,
    PoissonLoss,
    QuantileLoss,
    TweedieLoss,
)
from torch.utils.data import DataLoader
from torchmetrics import MeanSquaredError

from titans_seq.exceptions import ConfigError
from titans_seq.forecasting.ptf import TitansForecastModel


def _group(**settings: Any) -> dict[str, Any]:
    return {"target_normalizer": GroupNormalizer(groups=["shop"], **settings)}


LOSSES: dict[str, tuple[Any, dict[str, Any], int]] = {
    # loss, settings of the data set, outputs a step
    "MAE": (MAE(), {}, 1),
    "RMSE": (RMSE(), {}, 1),
    "SMAPE": (SMAPE(), {}, 1),
    "MASE": (MASE(), {}, 1),
    "Poisson": (PoissonLoss(), _group(center=False), 1),
    "Tweedie": (TweedieLoss(), _group(center=False), 1),
    "a torchmetric": (MeanSquaredError(), {}, 1),
    "a sum": (MAE() + 0.5 * SMAPE(), {}, 1),
    "quantiles": (QuantileLoss([0.1, 0.5, 0.9]), {}, 3),
    "quantiles in any order": (QuantileLoss([0.5, 0.9, 0.1]), {}, 3),
    "a sum with quantiles": (QuantileLoss([0.1, 0.5, 0.9]) + 0.1 * QuantileLoss([0.5]), {}, 3),
    "normal": (NormalDistributionLoss(), {}, 4),
    "log-normal": (LogNormalDistributionLoss(), _group(transformation="log1p"), 2),
    "negative binomial": (NegativeBinomialDistributionLoss(), _group(center=False), 2),
    "beta": (BetaDistributionLoss(), {"target": "rate", **_group(transformation="logit")}, 2),
    "multivariate normal": (
        MultivariateNormalDistributionLoss(rank=3), _group(transformation="log1p"), 7,
    ),
    "implicit quantiles": (ImplicitQuantileNetworkDistributionLoss(input_size=6), {}, 8),
    "classes": (
        CrossEntropy(), {"target": "sky", "target_normalizer": NaNLabelEncoder()}, 2,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def rates(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with a target between 0 and 1 too."""
    return rows.assign(rate=(0.5 + rows["sold"]) / (1 + rows["sold"].max()), sold=rows["sold"] + 1)


EXPONENTIAL = ("Poisson", "Tweedie")
"""Losses that read a logarithm; a first forecast near the values is far off."""

CROSSING = ("quantiles in any order", "implicit quantiles")
"""Losses whose quantiles do not come rising."""


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_learned_and_forecast_with(
    make_dataset: Any, rates: pd.DataFrame, quiet: dict[str, Any], name: str
) -> None:
    loss, settings, outputs = LOSSES[name]
    if settings.get("target") == "rate":
        settings = settings | {"time_varying_unknown_reals": ["rate", "price"]}
    dataset = make_dataset(
        rates, **{"min_prediction_length": 5, "min_encoder_length": 16} | settings
    )
    torch.manual_seed(0)
    model = TitansForecastModel.from_dataset(
        dataset, loss=loss, dim=8, heads=2, patch_length=4, learning_rate=0.01,
        logging_metrics=torch.nn.ModuleList(), dropout=0.0,
    )  # fmt: skip
    batch = next(iter(dataset.to_dataloader(train=False, batch_size=200)))
    loader: DataLoader[Any] = DataLoader([batch], batch_size=None, collate_fn=lambda one: one)
    trainer = Trainer(max_epochs=10, num_sanity_val_steps=0, **quiet)
    (before,) = trainer.validate(model, loader, verbose=False)
    trainer.fit(model, loader)
    (after,) = trainer.validate(model, loader, verbose=False)
    assert after["val_loss"] < before["val_loss"]

    with torch.no_grad():
        raw = model.eval()(batch[0])
    assert raw["prediction"].shape == (len(dataset), 5, outputs)
    assert raw["prediction"].dtype == torch.float32
    found = model.to_prediction(raw)
    assert found.shape == (len(dataset), 5)
    assert torch.isfinite(found.float()).all()
    if name == "classes":
        assert set(found.unique().tolist()) <= {0, 1}
        return
    if name not in EXPONENTIAL:
        actual = rates[dataset.target]
        assert float(actual.min()) - 2 < float(found.mean()) < float(actual.max()) + 2
    if name not in CROSSING:
        quantiles = model.to_quantiles(raw)
        assert quantiles.shape[:2] == (len(dataset), 5)
        assert (quantiles.diff(dim=-1) >= -1e-4).all()


def test_quantiles_keep_the_order_that_was_asked_for(
    make_dataset: Any, make_model: Any, batch_of: Any
) -> None:
    dataset = make_dataset()
    x, _ = batch_of(dataset)
    rising = make_model(dataset, loss=QuantileLoss([0.1, 0.5, 0.9]))(x)["prediction"]
    mixed = make_model(dataset, loss=QuantileLoss([0.5, 0.9, 0.1]))(x)["prediction"]
    torch.testing.assert_close(mixed, rising[..., [1, 2, 0]])
    assert (rising.diff(dim=-1) > 0).all()


def test_several_targets_take_a_loss_each(make_dataset: Any, quiet: dict[str, Any]) -> None:
    dataset = make_dataset(
        target=["sold", "price", "sky"],
        target_normalizer=MultiNormalizer(
            [EncoderNormalizer(), EncoderNormalizer(), NaNLabelEncoder()]
        ),
    )
    loss = MultiLoss([QuantileLoss([0.1, 0.5, 0.9]), MAE() + 0.5 * RMSE(), CrossEntropy()])
    model = TitansForecastModel.from_dataset(dataset, loss=loss, dim=8, heads=2, patch_length=4)
    Trainer(max_epochs=1, limit_train_batches=2, **quiet).fit(
        model, dataset.to_dataloader(train=True, batch_size=16)
    )
    cpu = {"accelerator": "cpu"}
    raw = model.predict(dataset, mode="raw", trainer_kwargs=cpu)["prediction"]
    assert [tuple(one.shape[1:]) for one in raw] == [(5, 3), (5, 1), (5, 2)]
    found = model.predict(dataset, trainer_kwargs=cpu)
    assert [tuple(one.shape[1:]) for one in found] == [(5,)] * 3
    default = TitansForecastModel.from_dataset(
        make_dataset(target=["sold", "price"]), dim=8, heads=2
    )
    assert isinstance(default.loss, MultiLoss)


def test_a_batch_of_short_horizons_has_a_loss(
    make_dataset: Any, make_model: Any, batch_of: Any
) -> None:
    dataset = make_dataset(target="sky", target_normalizer=NaNLabelEncoder())
    x, y = batch_of(dataset)
    short = x["decoder_lengths"] == 3
    assert short.any()
    x = {name: value[short] for name, value in x.items() if isinstance(value, torch.Tensor)}
    for kind in ("cont", "cat", "target"):
        x[f"decoder_{kind}"] = x[f"decoder_{kind}"][:, :3]
    out = make_model(dataset, loss=CrossEntropy())(x)["prediction"]
    assert torch.isfinite(CrossEntropy()(out, (y[0][short, :3].contiguous(), None)))


def test_a_loss_for_several_targets_is_refused_for_one(make_dataset: Any) -> None:
    with pytest.raises(AssertionError, match="MultiLoss not compatible with single target"):
        TitansForecastModel.from_dataset(make_dataset(), loss=MultiLoss([MAE()]), dim=8)


def test_the_loss_follows_from_the_target(make_dataset: Any) -> None:
    small = {"dim": 8, "heads": 2}
    real = TitansForecastModel.from_dataset(make_dataset(), **small)
    assert isinstance(real.loss, QuantileLoss)
    classes = {"target": "sky", "target_normalizer": NaNLabelEncoder()}
    categorical = TitansForecastModel.from_dataset(make_dataset(**classes), **small)
    assert isinstance(categorical.loss, CrossEntropy)
    both = make_dataset(
        target=["sold", "sky"],
        target_normalizer=MultiNormalizer([EncoderNormalizer(), NaNLabelEncoder()]),
    )
    model = TitansForecastModel.from_dataset(both, **small)
    assert [type(one) for one in model.loss] == [QuantileLoss, CrossEntropy]
    assert model.hparams.output_size == [7, 2]


def test_a_model_without_a_target_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"0 targets, 1 output sizes and 1 losses: .*from_dataset"
    ):
        TitansForecastModel()
