"""Trainings that one process, or several as one, can run; test_together.py compares them.

    torchrun --nproc-per-node 2 several.py OUT

Each process writes ``OUT/RANK.safetensors``: what came out, by name.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from titans_seq.dna import PretrainSettings, TitansDNAClassifier, pretrain
from titans_seq.dna.learning import fitting as dna_fitting
from titans_seq.exceptions import DataError, TitansSeqError
from titans_seq.forecasting import TitansForecaster
from titans_seq.forecasting.learning import fitting
from titans_seq.forecasting.tables.panel import Preprocess
from titans_seq.training import (
    Term,
    TrainSettings,
    broadcast_from_rank0,
    checkpointing,
    distributed,
    seeded,
    shared_map,
    single_process,
    train,
    world,
)

Found = dict[str, Tensor]

SIZES = (5, 4, 1, 2, 7, 3)
"""Rows of the batches of an epoch: even, uneven, and too few for two."""


class Batches:
    """Batches of these sizes, in an order that their generator draws anew."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.all = [
            {"x": x, "y": x[:, 0] * x[:, 1], "seen": x[:, 2] > -0.5}
            for x in (torch.randn(rows, 3, generator=generator).double() for rows in SIZES)
        ]
        self.generator = np.random.default_rng(7)

    def __len__(self) -> int:
        return len(self.all)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for number in self.generator.permutation(len(self.all)):
            yield self.all[number]


def mean_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return (model(batch["x"])[:, 0] - batch["y"]).square().mean()


def seen_loss(model: nn.Module, batch: dict[str, Tensor]) -> list[Term]:
    error = (model(batch["x"])[:, 0] - batch["y"]).square()
    half = -(-len(error) // 2)
    first = error[:half] * batch["seen"][:half]
    return [
        Term((error * batch["seen"]).sum(), batch["seen"].sum()),
        Term(first.sum(), batch["seen"][:half].sum()),
    ]


def small(loss: Any, dropout: float = 0.0, **changes: Any) -> Found:
    """Train a small network; the same loss chooses the epoch."""
    with seeded(0):
        model = nn.Sequential(
            nn.Linear(3, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1)
        ).double()
    settings = {"max_epochs": 4, "learning_rate": 0.05, "average_weights": True, **changes}
    history = train(
        model, loss, Batches(), validation=Batches().all[:3],
        settings=TrainSettings(**settings), seed=3,
    )  # fmt: skip
    losses = [(epoch.train_loss, epoch.validation_loss) for epoch in history.epochs]
    return {**model.state_dict(), "losses": torch.tensor(losses, dtype=torch.float64),
            "best": torch.tensor(history.best_epoch)}  # fmt: skip


def forecaster(scale: int) -> Found:
    """Fit and predict in float64, without what the network draws while it is trained."""
    generator = np.random.default_rng(0)
    series = np.sin(np.arange(120) / 4)[None] + 0.3 * generator.normal(size=(3, 120))
    series[1, 40:60] = np.nan
    plain = {"config": fitting.forecast_network_config, "panel": Preprocess.panel}

    def without_dropout(*given: Any) -> Any:
        return dataclasses.replace(plain["config"](*given), dropout=0.0)

    def in_float64(*given: Any, **more: Any) -> Any:
        panel = plain["panel"](*given, **more)
        values = {field.name: getattr(panel, field.name) for field in dataclasses.fields(panel)}
        return dataclasses.replace(panel, **{
            name: value.double() for name, value in values.items()
            if isinstance(value, Tensor) and value.is_floating_point()
        })  # fmt: skip

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "forecast_network_config", without_dropout)
        patch.setattr(fitting, "SMALLEST_BATCH", 64)
        patch.setattr(fitting, "TOKEN_DROPOUT", 0.0)
        patch.setattr(Preprocess, "panel", in_float64)
        torch.set_default_dtype(torch.float64)
        try:
            fitted = TitansForecaster(
                horizon=5, context_length=24, max_epochs=2, batch_size=17 * scale,
                dim=16, random_state=0,
            ).fit(series)  # fmt: skip
            forecast = fitted.predict()
        finally:
            torch.set_default_dtype(torch.float32)
    assert fitted.calibration_ is not None
    columns = [name for name in forecast if name.startswith("y_pred")]
    return {
        **fitted.network_.state_dict(),
        "scores": torch.from_numpy(fitted.calibration_.scores),
        "predictions": torch.tensor(forecast[columns].to_numpy(np.float64)),
    }


def classifier(scale: int) -> Found:
    """Fit and predict DNA in float32, without dropout."""
    sequences = _sequences(101, 20, 90)
    labels = [one.count("A") > one.count("C") for one in sequences]
    classifier = TitansDNAClassifier(
        max_epochs=2, batch_size=8 * scale, dropout=0.0, dim=16, layers=1, random_state=0,
        reverse_complement="augment", validation_fraction=0.3,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dna_fitting, "_REGRESSION_EPOCHS", (2, 2))  # of the k-mers, to be quick
        fitted = classifier.fit(sequences, labels)
    losses = [(one["train_loss"], one["validation_loss"]) for one in fitted.history_["epochs"]]
    return {
        "losses": torch.tensor(losses),
        "chances": torch.from_numpy(fitted.predict_proba(sequences)),
        "calibration": torch.tensor([fitted.calibration_["loss"]]),
    }


def language(scale: int, folder: Path) -> Found:
    """Pre-train on letters for a few steps."""
    settings = PretrainSettings(window=64, batch_size=3 * scale, steps=6, check_every=3)
    found = pretrain(_sequences(4, 1500, 3000), folder, settings=settings)
    losses = [(epoch.train_loss, epoch.validation_loss) for epoch in found.history.epochs]
    return {"losses": torch.tensor(losses), "perplexity": torch.tensor(found.perplexity)}


def all_trainings(scale: int, folder: Path) -> Found:
    """Run every training with batches so many times as large; name what came out."""
    return named(
        {
            "mean": small(mean_loss),
            "seen": small(seen_loss),
            "forecaster": forecaster(scale),
            "classifier": classifier(scale),
            "language": language(scale, folder),
        }
    )


def named(parts: dict[str, Found]) -> Found:
    """Return everything under its own name."""
    return {f"{name}/{key}": value for name, one in parts.items() for key, value in one.items()}


def stopped_and_resumed(folder: Path) -> None:
    """Stop a training by a signal to the last process alone, and go on."""
    whole = small(mean_loss, dropout=0.3)
    calls = 0

    def signalled(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 9 and world().rank == world().size - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return mean_loss(model, batch)

    with pytest.raises(KeyboardInterrupt, match="checkpoint was written"), checkpointing(folder):
        small(signalled, dropout=0.3)
    with checkpointing(folder, resume=True):
        again = small(mean_loss, dropout=0.3)
    assert calls < 15
    for name, value in whole.items():
        assert torch.equal(value, again[name]), name


def talk() -> None:
    """Share out, and let errors be known to all."""
    rank, size = world().rank, world().size
    assert list(shared_map(lambda one: (one, world().size), range(7))) == [(i, 1) for i in range(7)]
    ranks = list(shared_map(lambda _: world().rank, range(5)))
    assert ranks == [i % size for i in range(5)]
    assert broadcast_from_rank0(lambda: rank) == 0

    def fail(one: int) -> None:
        if one == 3:
            raise DataError("three")

    expected = DataError if rank == 3 % size else TitansSeqError
    with pytest.raises(expected, match="three"):
        list(shared_map(fail, range(6)))
    with pytest.raises(DataError if rank == 0 else TitansSeqError, match="three"):
        broadcast_from_rank0(lambda: fail(3))
    with pytest.raises(TitansSeqError, match=r"rank 0: prediction, rank 1: training"):
        list(shared_map(str, [1])) if rank == 0 else small(mean_loss)
    if rank == 0:
        with single_process():
            assert list(shared_map(str, range(3))) == ["0", "1", "2"]


def _sequences(count: int, least: int, most: int) -> list[str]:
    generator = np.random.default_rng(1)
    lengths = generator.integers(least, most, count)
    return ["".join(generator.choice(list("ACGT"), length)) for length in lengths]


def main() -> None:
    """Run everything as one of several processes."""
    out = Path(sys.argv[1])
    with distributed() as mine:
        talk()
        found = all_trainings(1, out / "language")
        stopped_and_resumed(out / "checkpoints")
    with distributed(strategy="fsdp"):
        shares = {"seen": small(seen_loss), "forecaster": forecaster(1)}
        found |= {f"shares/{key}": value for key, value in named(shares).items()}
        stopped_and_resumed(out / "shares")
    plain = {name: value.contiguous().clone() for name, value in found.items()}
    save_file(plain, out / f"{mine.rank}.safetensors")


if __name__ == "__main__":
    main()
