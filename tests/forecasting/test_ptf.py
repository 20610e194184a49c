from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip("pytorch_forecasting")

from lightning.pytorch import Callback, Trainer
from pytorch_forecasting import TimeSeriesDataSet
from pytorch_forecasting.data import (
    EncoderNormalizer,
    GroupNormalizer,
    MultiNormalizer,
    NaNLabelEncoder,
)
from pytorch_forecasting.metrics import (
    MAE,
    CrossEntropy,
    MultiLoss,
    NegativeBinomialDistributionLoss,
    NormalDistributionLoss,
    QuantileLoss,
)

from titans_seq.forecasting.ptf import TitansForecastModel

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


@pytest.fixture(autouse=True)
def _quiet_libraries() -> Iterator[None]:
    """Lightning and pytorch-forecasting warn of loaders and of each other."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(lightning|pytorch_forecasting)\.")
        yield


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
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
                "sky": rng.choice(["clear", "grey"], 60),
                "area": float(shift),
            }
        )
        for shift, name in enumerate("abc")
    ]
    return pd.concat(parts, ignore_index=True)


def _dataset(rows: pd.DataFrame, **settings: Any) -> TimeSeriesDataSet:
    values = {
        "time_idx": "time_idx", "target": "sold", "group_ids": ["shop"],
        "max_encoder_length": 16, "min_encoder_length": 3,
        "max_prediction_length": 5, "min_prediction_length": 2,
        "static_categoricals": ["shop"], "static_reals": ["area"],
        "time_varying_known_reals": ["plan"], "time_varying_known_categoricals": ["day"],
        "time_varying_unknown_reals": ["sold", "price"],
        "time_varying_unknown_categoricals": ["sky"],
        "add_relative_time_idx": True, "add_encoder_length": True,
    }  # fmt: skip
    return TimeSeriesDataSet(rows, **values | settings)


def _model(dataset: TimeSeriesDataSet, **settings: Any) -> TitansForecastModel:
    """Return a small model whose every output depends on every input."""
    torch.manual_seed(0)
    model = TitansForecastModel.from_dataset(dataset, dim=8, layers=1, **settings)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def _batch(dataset: TimeSeriesDataSet) -> dict[str, Any]:
    batch: dict[str, Any] = next(iter(dataset.to_dataloader(train=False, batch_size=200)))[0]
    return batch


@pytest.mark.parametrize(
    ("loss", "normalizer", "outputs"),
    [
        (QuantileLoss([0.1, 0.5, 0.9]), "auto", 3),
        (MAE(), "auto", 1),
        (NormalDistributionLoss(), "auto", 4),
        (NegativeBinomialDistributionLoss(), GroupNormalizer(groups=["shop"], center=False), 2),
    ],
)
def test_trains_and_predicts_with_every_kind_of_loss(
    rows: pd.DataFrame, loss: Any, normalizer: Any, outputs: int
) -> None:
    dataset = _dataset(rows, target_normalizer=normalizer, min_prediction_length=5)
    model = TitansForecastModel.from_dataset(
        dataset, loss=loss, dim=8, layers=1, learning_rate=0.01
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    Trainer(max_epochs=1, limit_train_batches=3, **QUIET).fit(
        model, dataset.to_dataloader(train=True, batch_size=8)
    )
    assert any(not torch.equal(before[name], value) for name, value in model.state_dict().items())
    raw = model.predict(dataset, mode="raw", trainer_kwargs={"accelerator": "cpu"})
    assert raw["prediction"].shape[1:] == (5, outputs)
    found = model.predict(dataset, trainer_kwargs={"accelerator": "cpu"})
    assert torch.isfinite(found).all()
    assert (found.mean() - rows["sold"].mean()).abs() < 3


def test_several_targets_have_a_forecast_each(rows: pd.DataFrame) -> None:
    dataset = _dataset(
        rows,
        target=["sold", "sky"],
        target_normalizer=MultiNormalizer([EncoderNormalizer(), NaNLabelEncoder()]),
    )
    loss = MultiLoss([QuantileLoss([0.1, 0.9]), CrossEntropy()])
    prediction = _model(dataset, loss=loss)(_batch(dataset))["prediction"]
    assert [tuple(one.shape[1:]) for one in prediction] == [(5, 2), (5, 2)]
    default = _model(_dataset(rows, target=["sold", "price"]))
    assert isinstance(default.loss, MultiLoss)


def test_the_unknown_part_of_the_decoder_is_never_read(rows: pd.DataFrame) -> None:
    dataset = _dataset(rows)
    model, x = _model(dataset), _batch(dataset)
    expected = model(x)["prediction"]
    known = [dataset.reals.index(name) for name in ("plan", "relative_time_idx", "area",
                                                   "encoder_length")]  # fmt: skip
    cont = torch.full_like(x["decoder_cont"], 77.0)
    cont[..., known] = x["decoder_cont"][..., known]
    sky = dataset.flat_categoricals.index("sky")
    cat = x["decoder_cat"].clone()
    cat[..., sky] = 1 - cat[..., sky]
    scrambled = {**x, "decoder_cont": cont, "decoder_cat": cat, "decoder_target": None}
    torch.testing.assert_close(model(scrambled)["prediction"], expected, atol=0, rtol=0)
    cont = x["decoder_cont"].clone()
    cont[..., known[0]] += 1
    assert not torch.allclose(model({**x, "decoder_cont": cont})["prediction"], expected)


def test_padding_of_the_encoder_is_never_read(rows: pd.DataFrame) -> None:
    dataset = _dataset(rows)
    model, x = _model(dataset), _batch(dataset)
    short = x["encoder_lengths"] < 16
    assert short.any()
    padded = torch.arange(16) >= x["encoder_lengths"][:, None]
    cont = torch.where(padded[..., None], 99.0, x["encoder_cont"])
    expected = model(x)["prediction"]
    torch.testing.assert_close(model({**x, "encoder_cont": cont})["prediction"], expected)
    alone = {name: part[:1] for name, part in x.items() if isinstance(part, torch.Tensor)}
    torch.testing.assert_close(model(alone)["prediction"], expected[:1], atol=1e-4, rtol=1e-4)


def test_the_forecast_is_in_real_units(rows: pd.DataFrame) -> None:
    dataset = _dataset(rows.assign(sold=rows["sold"] + 5000))
    prediction = _model(dataset)(_batch(dataset))["prediction"]
    assert prediction.min() > 4800


def test_a_model_that_has_run_can_be_pickled_and_reloaded(
    rows: pd.DataFrame, tmp_path: Path
) -> None:
    dataset = _dataset(rows)
    model, x = _model(dataset), _batch(dataset)
    expected = model(x)["prediction"]
    again = pickle.loads(pickle.dumps(model))
    torch.testing.assert_close(again(x)["prediction"], expected)
    trainer = Trainer(max_epochs=1, limit_train_batches=1, **QUIET)
    trainer.fit(model, dataset.to_dataloader(train=True, batch_size=4))
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    loaded = TitansForecastModel.load_from_checkpoint(tmp_path / "model.ckpt").eval()
    torch.testing.assert_close(loaded(x)["prediction"], model.eval()(x)["prediction"])


def test_predict_leaves_its_arguments_and_the_folder_alone(
    rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dataset = _dataset(rows)
    model = _model(dataset)
    settings = {"accelerator": "cpu", "callbacks": [Callback()]}
    one = model.predict(dataset, trainer_kwargs=settings)
    two = model.predict(dataset, trainer_kwargs=settings)
    assert len(settings["callbacks"]) == 1
    torch.testing.assert_close(one, two, equal_nan=True)  # where a decoder is shorter
    assert list(tmp_path.iterdir()) == []


def test_the_package_class_names_the_model() -> None:
    package = TitansForecastModel.pkg
    assert package.get_cls() is TitansForecastModel
    assert package.__name__ == TitansForecastModel.__name__ + "_pkg"
    assert package.get_class_tag("info:name") == TitansForecastModel.__name__
