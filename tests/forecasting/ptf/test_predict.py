"""Every way to predict: modes, what may be returned, where it goes, and pictures."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from pytorch_forecasting.data import TimeSeriesDataSet
from pytorch_forecasting.metrics import NormalDistributionLoss, QuantileLoss

from titans_seq.forecasting.ptf import TitansForecastModel
from titans_seq.forecasting.ptf.outputs import TitansInterpretedOutput, TitansOutput

CPU = {"accelerator": "cpu"}


@pytest.fixture(scope="module")
def dataset(make_dataset: Any) -> TimeSeriesDataSet:
    return make_dataset(min_encoder_length=14)


@pytest.fixture
def model(make_model: Any, dataset: TimeSeriesDataSet) -> TitansForecastModel:
    return make_model(dataset, loss=QuantileLoss([0.1, 0.5, 0.9]))  # type: ignore[no-any-return]


def test_each_mode_gives_its_part_of_the_forecast(
    model: TitansForecastModel, dataset: TimeSeriesDataSet
) -> None:
    count = len(dataset)
    raw = model.predict(dataset, mode="raw", trainer_kwargs=CPU)
    assert isinstance(raw, TitansOutput)
    assert raw.prediction.shape == (count, 5, 3)
    named = model.predict(dataset, mode=("raw", "prediction"), trainer_kwargs=CPU)
    torch.testing.assert_close(named, raw.prediction, equal_nan=True)
    quantiles = model.predict(dataset, mode="quantiles", trainer_kwargs=CPU)
    real = ~quantiles.isnan()
    torch.testing.assert_close(quantiles[real], raw.prediction[real])
    point = model.predict(dataset, trainer_kwargs=CPU)
    torch.testing.assert_close(point, quantiles[..., 1], equal_nan=True)
    with pytest.raises(ValueError, match="Unknown mode"):
        model.predict(dataset, mode="median", trainer_kwargs=CPU)


def test_mode_settings_reach_the_loss(make_model: Any, dataset: TimeSeriesDataSet) -> None:
    model = make_model(dataset, loss=NormalDistributionLoss())
    torch.manual_seed(0)
    found = model.predict(
        dataset, mode="quantiles", trainer_kwargs=CPU,
        mode_kwargs={"quantiles": [0.2, 0.8], "n_samples": 50},
    )  # fmt: skip
    assert found.shape[1:] == (5, 2)


def test_all_that_may_be_returned_is_in_the_same_order(
    model: TitansForecastModel, dataset: TimeSeriesDataSet
) -> None:
    found = model.predict(
        dataset, return_x=True, return_index=True, return_y=True, return_decoder_lengths=True,
        batch_size=16, trainer_kwargs=CPU,
    )  # fmt: skip
    assert len(found.output) == len(found.index) == len(found.decoder_lengths) == len(dataset)
    torch.testing.assert_close(found.x["decoder_lengths"], found.decoder_lengths)
    real = torch.arange(5) < found.decoder_lengths[:, None]
    assert torch.equal(~found.output.isnan(), real)
    torch.testing.assert_close(found.y[0][real], found.x["decoder_target"][real])
    first = found.x["decoder_time_idx"][:, 0].numpy()
    assert (found.index["time_idx"].to_numpy() == first).all()


def test_frames_data_sets_and_loaders_give_the_same(
    model: TitansForecastModel, dataset: TimeSeriesDataSet, rows: pd.DataFrame
) -> None:
    ahead = TimeSeriesDataSet.from_dataset(dataset, rows, predict=True)
    expected = model.predict(ahead, trainer_kwargs=CPU)
    assert expected.shape == (3, 5)
    from_frame = model.predict(rows, trainer_kwargs=CPU)
    loader = ahead.to_dataloader(train=False, batch_size=2)
    torch.testing.assert_close(from_frame, expected)
    torch.testing.assert_close(model.predict(loader, trainer_kwargs=CPU), expected)


def test_the_real_future_needs_no_future_target(
    model: TitansForecastModel, rows: pd.DataFrame
) -> None:
    last = rows[rows["time_idx"] >= 55].copy()
    ahead = last.assign(time_idx=last["time_idx"] + 5, sold=0.0, price=0.0, sky="clear")
    other = ahead.assign(sold=99.0, price=-7.0, sky="grey")
    found = [
        model.predict(pd.concat([rows, part], ignore_index=True), trainer_kwargs=CPU)
        for part in (ahead, other)
    ]
    torch.testing.assert_close(found[0], found[1], atol=0, rtol=0)


def test_predict_leaves_its_arguments_and_the_folder_alone(
    model: TitansForecastModel,
    dataset: TimeSeriesDataSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {"accelerator": "cpu", "callbacks": [Callback()]}
    first = model.predict(dataset, trainer_kwargs=settings)
    second = model.predict(dataset, trainer_kwargs=settings)
    assert list(settings) == ["accelerator", "callbacks"]
    assert len(settings["callbacks"]) == 1
    assert len(first) == len(dataset)
    torch.testing.assert_close(first, second, equal_nan=True)
    assert list(tmp_path.iterdir()) == []


def test_predict_takes_one_device(
    model: TitansForecastModel, dataset: TimeSeriesDataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[dict[str, Any]] = []

    def noting(**settings: Any) -> Trainer:
        taken.append(settings)
        return Trainer(**settings)

    monkeypatch.setattr("pytorch_forecasting.models.base._base_model.Trainer", noting)
    model.predict(dataset, fast_dev_run=True, trainer_kwargs=CPU)
    model.predict(dataset, fast_dev_run=True, trainer_kwargs=CPU | {"devices": "auto"})
    assert [one["devices"] for one in taken] == [1, "auto"]


@pytest.mark.parametrize("interpret", [False, True])
def test_raw_output_goes_to_disk_and_comes_back(
    model: TitansForecastModel, dataset: TimeSeriesDataSet, tmp_path: Path, interpret: bool
) -> None:
    kept = model.predict(
        dataset, mode="raw", output_dir=str(tmp_path), batch_size=64, trainer_kwargs=CPU,
        interpret=interpret,
    )  # fmt: skip
    assert kept is None
    paths = sorted(tmp_path.iterdir())
    assert [path.name for path in paths] == [
        f"predictions_{number}.pt" for number in range(-(-len(dataset) // 64))
    ]
    back = [torch.load(path, weights_only=False).output for path in paths]
    assert isinstance(back[0], TitansInterpretedOutput if interpret else TitansOutput)
    expected = model.predict(dataset, mode="raw", batch_size=64, trainer_kwargs=CPU).prediction
    torch.testing.assert_close(
        torch.cat([one.prediction for one in back]), expected, atol=1e-5, rtol=1e-5
    )


def test_a_dependency_is_read_off_forecasts(
    model: TitansForecastModel, dataset: TimeSeriesDataSet
) -> None:
    found = model.predict_dependency(
        dataset, "plan", np.array([-1.0, 0.0, 1.0]), mode="series", trainer_kwargs=CPU
    )
    assert list(found.index) == [-1.0, 0.0, 1.0]
    assert found.nunique() == 3


@pytest.mark.slow
def test_forecasts_are_compared_with_actual_values_by_variable(
    model: TitansForecastModel, dataset: TimeSeriesDataSet
) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    found = model.predict(dataset, return_x=True, trainer_kwargs=CPU)
    averages = model.calculate_prediction_actual_by_variable(found.x, found.output)
    assert set(averages["support"]) == {*dataset.reals, *dataset.categoricals}
    for name, count in averages["support"].items():
        assert count.sum() > 0
        seen = count > 0
        assert torch.isfinite(averages["average"]["prediction"][name][seen]).all()
    figures = model.plot_prediction_actual_by_variable(averages)
    assert set(figures) == set(averages["support"])
    pyplot.close("all")


@pytest.mark.parametrize("way", ["pickle", "deepcopy", "torch.save", "checkpoint"])
def test_a_trained_model_comes_back_the_same(
    make_dataset: Any,
    batch_of: Any,
    quiet: dict[str, Any],
    tmp_path: Path,
    way: str,
) -> None:
    dataset = make_dataset()
    model = TitansForecastModel.from_dataset(dataset, dim=8, heads=2, learning_rate=0.01)
    trainer = Trainer(max_epochs=1, limit_train_batches=2, **quiet)
    trainer.fit(model, dataset.to_dataloader(train=True, batch_size=16))
    x, _ = batch_of(dataset)
    expected = model.eval()(x)["prediction"]
    path = tmp_path / "model"
    again: TitansForecastModel
    if way == "pickle":
        again = pickle.loads(pickle.dumps(model))
    elif way == "deepcopy":
        again = copy.deepcopy(model)
    elif way == "torch.save":
        torch.save(model, path)
        again = torch.load(path, weights_only=False)
    else:
        trainer.save_checkpoint(path)
        again = TitansForecastModel.load_from_checkpoint(path)
        assert dict(again.hparams).keys() == dict(model.hparams).keys()
    torch.testing.assert_close(again.eval()(x)["prediction"], expected)
    found = again.predict(dataset, trainer_kwargs=CPU)
    torch.testing.assert_close(found, model.predict(dataset, trainer_kwargs=CPU), equal_nan=True)


RELOAD = """
import sys, pandas as pd, torch, warnings
warnings.simplefilter("ignore")
from titans_seq.forecasting.ptf import TitansForecastModel
model = TitansForecastModel.load_from_checkpoint(sys.argv[1])
found = model.predict(pd.read_pickle(sys.argv[2]), trainer_kwargs={"accelerator": "cpu"})
torch.save(found, sys.argv[3])
"""


@pytest.mark.slow
def test_a_checkpoint_predicts_in_a_fresh_process(
    make_dataset: Any, rows: pd.DataFrame, quiet: dict[str, Any], tmp_path: Path
) -> None:
    dataset = make_dataset()
    model = TitansForecastModel.from_dataset(dataset, dim=8, heads=2)
    trainer = Trainer(max_epochs=1, limit_train_batches=2, **quiet)
    trainer.fit(model, dataset.to_dataloader(train=True, batch_size=16))
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    rows.to_pickle(tmp_path / "rows.pkl")
    files = [str(tmp_path / name) for name in ("model.ckpt", "rows.pkl", "found.pt")]
    subprocess.run([sys.executable, "-c", RELOAD, *files], check=True, capture_output=True)
    found = torch.load(files[2])
    torch.testing.assert_close(found, model.predict(rows, trainer_kwargs=CPU))
