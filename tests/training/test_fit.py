from __future__ import annotations

import logging
import math
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from titans_seq.exceptions import DataError, DivergedError
from titans_seq.training import TrainSettings, seeded, showing_progress, train

Batch = dict[str, Tensor]


def _network(seed: int = 0, dropout: float = 0.0) -> nn.Module:
    with seeded(seed):
        return nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 1))


def _batches(count: int = 8, seed: int = 0) -> list[Batch]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 32, 3, generator=generator)
    return [{"x": x, "y": x[:, 0] * x[:, 1]} for x in inputs]


def _loss(network: nn.Module, batch: Batch) -> Tensor:
    return (network(batch["x"])[:, 0] - batch["y"]).square().mean()


def _score(network: nn.Module, batches: list[Batch]) -> float:
    with torch.no_grad():
        return sum(_loss(network, batch).item() for batch in batches) / len(batches)


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_it_learns() -> None:
    network = _network()
    before = _score(network, _batches())
    settings = TrainSettings(max_epochs=60, learning_rate=2e-2)
    history = train(network, _loss, _batches(), settings=settings)
    assert _score(network, _batches()) < 0.3 * before
    assert len(history.epochs) == 60
    assert history.steps == 480
    assert history.stopped_by == "max_epochs"
    assert history.best_loss is None
    assert history.to_table()["epochs"][0]["epoch"] == 1


def test_one_batch_of_one_row_is_enough() -> None:
    network = _network()
    batches = [{"x": torch.ones(1, 3), "y": torch.ones(1)}]
    history = train(network, _loss, batches, settings=TrainSettings(max_epochs=1))
    assert history.steps == 1


def test_the_best_epoch_is_the_one_that_is_kept() -> None:
    network, held_out = _network(), _batches(3, seed=1)
    settings = TrainSettings(max_epochs=15, learning_rate=0.5, schedule="constant")
    history = train(network, _loss, _batches(), validation=held_out, settings=settings)
    losses = [record.validation_loss for record in history.epochs]
    assert history.best_epoch == 1 + min(range(15), key=lambda i: losses[i] or math.inf)
    assert history.best_loss == pytest.approx(_score(network, held_out), rel=1e-5)
    assert not network.training


def test_patience_ends_training_after_so_many_worse_epochs() -> None:
    settings = TrainSettings(max_epochs=500, learning_rate=0.5, patience=3, schedule="constant")
    history = train(
        _network(), _loss, _batches(), validation=_batches(2, seed=1), settings=settings
    )
    assert history.stopped_by == "patience"
    assert len(history.epochs) == history.best_epoch + 3


def test_a_validation_loss_of_sums_and_counts_is_pooled_over_batches() -> None:
    held_out = [
        {"x": torch.zeros(1, 3), "y": torch.zeros(1)},
        {"x": torch.zeros(9, 3), "y": torch.ones(9)},
    ]
    history = train(
        _network(),
        _loss,
        _batches(),
        validation=held_out,
        settings=TrainSettings(max_epochs=1),
        validation_loss=lambda network, batch: (batch["y"].sum(), len(batch["y"])),
    )
    assert history.best_loss == pytest.approx(0.9)


@pytest.mark.parametrize("steps", [1, 8, 11])
def test_steps_end_training_in_the_midst_of_an_epoch(steps: int) -> None:
    history = train(
        _network(),
        _loss,
        _batches(),
        validation=_batches(1, seed=1),
        settings=TrainSettings(max_epochs=9, max_steps=steps),
    )
    assert history.steps == steps
    assert history.stopped_by == "max_steps"
    assert history.epochs[-1].validation_loss is not None


def test_seconds_end_training_and_the_rate_falls_in_time() -> None:
    settings = TrainSettings(max_epochs=10_000, max_seconds=0.3)
    history = train(_network(), _loss, _batches(), settings=settings)
    assert history.stopped_by == "max_seconds"
    assert history.epochs[-1].learning_rate < 0.1 * settings.learning_rate


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    results = []
    for seed in (0, 0, 1):
        network = _network(dropout=0.5)
        train(network, _loss, _batches(), settings=TrainSettings(max_epochs=2), seed=seed)
        results.append(_weights(network)["0.weight"])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_the_callers_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    train(_network(dropout=0.5), _loss, _batches(), settings=TrainSettings(max_epochs=1))
    assert torch.equal(before, torch.get_rng_state())


def test_the_running_mean_is_what_is_kept() -> None:
    settings = TrainSettings(max_epochs=3, schedule="constant", warmup_fraction=0.0)
    plain, averaged = _network(), _network()
    train(plain, _loss, _batches(), settings=settings)

    seen: list[Tensor] = []

    def loss(network: nn.Module, batch: Batch) -> Tensor:
        seen.append(_weights(network)["3.bias"])
        return _loss(network, batch)

    train(
        averaged,
        loss,
        _batches(),
        settings=TrainSettings(
            max_epochs=3, schedule="constant", warmup_fraction=0.0, average_weights=True
        ),
    )
    mean = seen[0]
    for step, value in enumerate([*seen[1:], _weights(plain)["3.bias"]], start=1):
        stays = min(0.995, step / (step + 9))
        mean = stays * mean + (1 - stays) * value
    torch.testing.assert_close(_weights(averaged)["3.bias"], mean)


def test_a_loss_that_is_not_finite_stops_and_gives_the_last_good_weights_back() -> None:
    network = _network()
    calls = 0
    good: dict[str, Tensor] = {}

    def loss(network: nn.Module, batch: Batch) -> Tensor:
        nonlocal calls, good
        calls += 1
        if calls == 9:
            good = _weights(network)
        return _loss(network, batch) * (math.nan if calls == 11 else 1.0)

    with pytest.raises(DivergedError, match=r"loss is not finite in epoch 2, step 11; try a"):
        train(network, loss, _batches(), settings=TrainSettings(max_epochs=3))
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, good[name])


def test_a_gradient_that_is_not_finite_stops_before_the_step() -> None:
    network = _network()
    before = _weights(network)

    def loss(network: nn.Module, batch: Batch) -> Tensor:
        return (network(batch["x"]) * 0).sum().sqrt()

    with pytest.raises(DivergedError, match="gradient is not finite in epoch 1, step 1"):
        train(network, loss, _batches(), settings=TrainSettings(max_epochs=1))
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name])


def test_a_long_gradient_is_scaled_down() -> None:
    network = nn.Linear(3, 1, bias=False)
    settings = TrainSettings(max_epochs=1, gradient_clip=0.5)
    gradients: list[Tensor] = []

    class Recorder(torch.optim.AdamW):
        def step(self, closure: Any = None) -> Any:
            result = super().step(closure)
            gradients.extend(p.grad.clone() for g in self.param_groups for p in g["params"])
            return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "AdamW", Recorder)
        train(
            network, lambda net, batch: 1e6 * net(batch["x"]).mean(), _batches(2), settings=settings
        )
    assert [round(float(g.norm()), 3) for g in gradients] == [0.5, 0.5]


def test_it_is_silent_and_writes_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    level = logging.getLogger("lightning.pytorch").level
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settings = TrainSettings(max_epochs=2, progress=True)  # not a terminal: no bar
        train(_network(), _loss, _batches(), validation=_batches(1), settings=settings)
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())
    assert logging.getLogger("lightning.pytorch").level == level


def test_a_bar_is_shown_on_a_terminal_where_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    settings = TrainSettings(max_epochs=2)
    train(_network(), _loss, _batches(), settings=settings)
    assert capsys.readouterr().err == ""
    with showing_progress():
        train(_network(), _loss, _batches(), settings=settings)
    assert "training" in capsys.readouterr().err
    train(_network(), _loss, _batches(), settings=settings)
    assert capsys.readouterr().err == ""


def test_an_interruption_stays_one_and_the_next_is_heard() -> None:
    handler = signal.getsignal(signal.SIGINT)

    def loss(network: nn.Module, batch: Batch) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(_network(), loss, _batches(), settings=TrainSettings(max_epochs=1))
    assert signal.getsignal(signal.SIGINT) is handler


def test_an_epoch_without_batches_is_refused() -> None:
    with pytest.raises(DataError, match="no batch to train on"):
        train(_network(), _loss, [], settings=TrainSettings(max_epochs=1))
