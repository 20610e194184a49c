"""Training by the host: constraints, precision, many processes, going on where it stopped."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from pytorch_forecasting.data import NaNLabelEncoder
from pytorch_forecasting.metrics import MAE, CrossEntropy, NormalDistributionLoss
from torch.nn.attention import SDPBackend, sdpa_kernel

from titans_seq.forecasting.ptf import TitansForecastModel

VARIANTS = ("mac", "mag", "mal", "lmm", "attention")
SMALL = {"dim": 8, "heads": 2, "patch_length": 4}


@pytest.mark.parametrize("variant", VARIANTS)
def test_monotone_constraints_have_a_second_derivative(
    make_dataset: Any, make_model: Any, batch_of: Any, variant: str
) -> None:
    dataset = make_dataset(min_encoder_length=16, min_prediction_length=5)
    model = make_model(dataset, variant=variant, loss=MAE(), dropout=0.0).double().eval()
    x, _ = batch_of(dataset, 3)
    for name, value in x.items():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            x[name] = value.double()

    def slopes(weight: torch.Tensor) -> torch.Tensor:
        """Return the derivative of the forecast by the decoder, as a function of a weight."""
        ahead = x["decoder_cont"].detach().requires_grad_()
        name = "networks.0.read_past.project.weight"
        out = torch.func.functional_call(model, {name: weight}, ({**x, "decoder_cont": ahead},))
        (slope,) = torch.autograd.grad(out["prediction"].sum(), ahead, create_graph=True)
        return slope.square().sum()

    weight = model.networks[0].read_past.project.weight.detach().clone().requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):
        (found,) = torch.autograd.grad(slopes(weight), weight)
        way = torch.randn_like(weight)
        near, far = (
            slopes(weight + step * way) - slopes(weight - step * way) for step in (1e-4, 2e-4)
        )
    change = (8 * near - far) / 12e-4  # of fourth order
    torch.testing.assert_close((found * way).sum(), change, rtol=1e-5, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("sign", "epochs"), [(1, 3), (-1, 4)])
def test_monotone_constraints_turn_a_forecast(
    make_dataset: Any, batch_of: Any, quiet: dict[str, Any], sign: int, epochs: int
) -> None:
    """The data ask for a rising slope, soon; a falling one is asked for against them."""
    dataset = make_dataset(min_encoder_length=16, min_prediction_length=5)

    def trained(**constraints: int) -> float:
        """Return the slope after training, positive if it is as asked for."""
        torch.manual_seed(0)
        model = TitansForecastModel.from_dataset(
            dataset, loss=MAE(), learning_rate=0.06, monotone_constraints=constraints,
            dropout=0.0, **SMALL,
        )  # fmt: skip
        with torch.no_grad():  # begin with the wrong sign
            model.networks[0].effect.readouts[0].weight.fill_(-0.6 * sign)
            model.networks[0].effect.reals[0].weight.fill_(1.0)
        Trainer(max_epochs=epochs, limit_train_batches=4, **quiet).fit(
            model, dataset.to_dataloader(train=True, batch_size=32)
        )
        x, _ = batch_of(dataset, 64)
        ahead = x["decoder_cont"].requires_grad_()
        model.eval()(x)["prediction"].sum().backward()
        return float(ahead.grad[..., dataset.reals.index("plan")].mean()) * sign

    free, bound = trained(), trained(plan=5 * sign)

    assert free < 0
    assert bound > max(0, free + 0.5)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
@pytest.mark.parametrize("loss", [NormalDistributionLoss(), MAE()], ids=lambda one: one.name)
def test_half_precision_trains_and_predicts(
    make_dataset: Any, quiet: dict[str, Any], precision: str, loss: Any
) -> None:
    dataset = make_dataset(min_encoder_length=8)
    model = TitansForecastModel.from_dataset(dataset, loss=loss, **SMALL)
    trainer = Trainer(max_epochs=1, limit_train_batches=2, precision=precision, **quiet)
    trainer.fit(model, dataset.to_dataloader(train=True, batch_size=16))
    assert torch.isfinite(trainer.callback_metrics["train_loss"])
    found = model.predict(
        dataset, mode="raw", trainer_kwargs={"accelerator": "cpu", "precision": precision}
    )
    assert found["prediction"].dtype == torch.float32
    assert torch.isfinite(found["prediction"][:, :2]).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_inference_mode_gives_the_same(
    make_dataset: Any, make_model: Any, batch_of: Any, variant: str
) -> None:
    dataset = make_dataset()
    model, (x, _) = make_model(dataset, variant=variant), batch_of(dataset, 20)
    expected = model(x)["prediction"].detach()
    with torch.inference_mode():
        torch.testing.assert_close(model(x)["prediction"], expected)
        again = model(x, interpret=True)
    torch.testing.assert_close(again["prediction"], expected)
    found = model.predict(
        dataset, mode="raw", trainer_kwargs={"accelerator": "cpu", "inference_mode": True}
    )
    steps = expected.shape[1]
    torch.testing.assert_close(found["prediction"][:20, :steps], expected)


def test_training_goes_on_from_a_checkpoint(
    make_dataset: Any, quiet: dict[str, Any], tmp_path: Path
) -> None:
    dataset = make_dataset(min_encoder_length=16, min_prediction_length=5)
    settings = quiet | {"enable_checkpointing": True, "limit_train_batches": 2}

    def train(epochs: int, **more: Any) -> TitansForecastModel:
        torch.manual_seed(0)
        model = TitansForecastModel.from_dataset(dataset, dropout=0.0, learning_rate=0.01, **SMALL)
        model.eval()  # Lightning leaves it so: no token is dropped, and both ways are alike
        keep = ModelCheckpoint(dirpath=tmp_path, save_last=True)
        trainer = Trainer(max_epochs=epochs, callbacks=[keep], **settings)
        loader = dataset.to_dataloader(train=True, batch_size=32, shuffle=False)
        trainer.fit(model, loader, **more)
        return model

    straight = train(3)
    for path in tmp_path.iterdir():
        path.unlink()
    first = train(1)
    resumed = train(3, ckpt_path=tmp_path / "last.ckpt", weights_only=False)
    state, half = straight.state_dict(), first.state_dict()
    assert any(not torch.equal(half[name], value) for name, value in state.items())
    for name, value in resumed.state_dict().items():
        torch.testing.assert_close(value, state[name])


def test_a_learning_rate_is_looked_for(make_dataset: Any, quiet: dict[str, Any]) -> None:
    from pytorch_forecasting.tuning import Tuner

    dataset = make_dataset(min_encoder_length=16)
    model = TitansForecastModel.from_dataset(dataset, **SMALL)
    trainer = Trainer(max_epochs=1, **quiet)
    found = Tuner(trainer).lr_find(
        model,
        train_dataloaders=dataset.to_dataloader(train=True, batch_size=16),
        num_training=8,
        early_stop_threshold=None,
    )
    assert len(found.results["loss"]) == 8
    assert all(torch.isfinite(torch.tensor(found.results["loss"])))


def test_predictions_are_logged_while_training(
    make_dataset: Any, quiet: dict[str, Any], tmp_path: Path
) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    from lightning.pytorch.loggers import CSVLogger

    dataset = make_dataset(min_encoder_length=16)
    model = TitansForecastModel.from_dataset(
        dataset, log_interval=1, log_val_interval=1, log_gradient_flow=True, **SMALL
    )
    settings = quiet | {"logger": CSVLogger(tmp_path)}
    loader = dataset.to_dataloader(train=False, batch_size=32)
    Trainer(max_epochs=1, limit_train_batches=2, limit_val_batches=1, **settings).fit(
        model, loader, loader
    )
    (table,) = tmp_path.rglob("metrics.csv")
    assert {"val_loss", "val_MAE", "val_SMAPE"} <= set(table.read_text().splitlines()[0].split(","))
    pyplot.close("all")


DISTRIBUTED = """
import sys, pickle, torch, warnings
warnings.simplefilter("ignore")
from lightning.pytorch import Trainer
from titans_seq.forecasting.ptf import TitansForecastModel
if __name__ == "__main__":
    dataset, loss = pickle.load(open(sys.argv[1], "rb"))
    torch.manual_seed(0)
    model = TitansForecastModel.from_dataset(
        dataset, loss=loss, dim=8, heads=2, patch_length=4, logging_metrics=torch.nn.ModuleList()
    )
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, limit_train_batches=2,
        logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, dataset.to_dataloader(train=True, batch_size=8))
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    both = trainer.strategy.all_gather(weights)
    torch.testing.assert_close(both[0], both[1], atol=0, rtol=0)
    if trainer.is_global_zero:
        found = model.predict(dataset, trainer_kwargs={"accelerator": "cpu"})
        assert len(found) == len(dataset), (len(found), len(dataset))
        print("both agree")
"""


@pytest.mark.slow
def test_two_processes_train_one_model(make_dataset: Any, tmp_path: Path) -> None:
    # classes leave more of the network unused than other losses, which two processes mind
    dataset = make_dataset(target="sky", target_normalizer=NaNLabelEncoder())
    (tmp_path / "data.pkl").write_bytes(pickle.dumps((dataset, CrossEntropy())))
    script = tmp_path / "train.py"
    script.write_text(DISTRIBUTED)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "data.pkl")],
        capture_output=True, text=True, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "both agree" in done.stdout
