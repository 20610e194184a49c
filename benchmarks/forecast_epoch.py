"""Time an epoch of the forecaster beside iTransformer's, on ETTh1 or on rows of its shape.

    python benchmarks/forecast_epoch.py [--data ETTh1.csv] [--rounds 3] [--fit] [--out FILE]

Look-back and horizon 96, seven hourly channels, the 8,640 rows that the published protocol
trains on. An epoch is every training window of every channel once: ours 59,143 windows of one
channel, through the library's own loader, loss, optimizer and trainer, iTransformer's 8,449 of
all seven. The two take turns on one thread; figures are CPU seconds of the process, and the
ratio is the median over the rounds.

``--fit`` trains both as they are trained to be used, ours with its defaults, and scores them on
every window of the test rows: what the epochs come to, and what all of them cost.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from forecasting_peers.itransformer import Training
from memory_cells.machine import environment

from titans_seq.files import write_json
from titans_seq.forecasting import ForecastNetwork, TitansForecaster
from titans_seq.forecasting.learning.fitting import forecast_network_config, split_windows
from titans_seq.forecasting.learning.losses import training_loss
from titans_seq.forecasting.learning.windows import WindowBatches
from titans_seq.forecasting.settings import ForecastSettings
from titans_seq.forecasting.tables.panel import Preprocess
from titans_seq.forecasting.tables.prepare import training_table
from titans_seq.training import TrainSettings, train

LENGTH = 96
"""Rows to look back on, and to forecast."""

BORDERS = (8_640, 11_520, 14_400)
"""Rows of ETTh1 where training, validation and test end."""


def read(path: Path | None) -> pd.DataFrame:
    """Return a row an hour, ``date`` and seven channels; noise on rhythms without a file."""
    if path is not None:
        return pd.read_csv(path, parse_dates=["date"])[: BORDERS[-1]]
    rng, hours = np.random.default_rng(0), np.arange(BORDERS[-1])
    columns: dict[str, Any] = {"date": pd.date_range("2016-07-01", periods=len(hours), freq="h")}
    for number in range(7):
        rhythm = np.sin(2 * np.pi * (hours / 24 + number / 7)) + np.sin(2 * np.pi * hours / 168)
        columns[f"channel {number}"] = rhythm + rng.normal(scale=0.5, size=len(hours))
    return pd.DataFrame(columns)


def scaled(frame: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return the channels on the scale of their training rows."""
    values = frame.drop(columns="date").to_numpy(np.float64)
    learnt = values[: BORDERS[0]]
    return np.asarray((values - learnt.mean(0)) / learnt.std(0))


def forecaster(frame: pd.DataFrame) -> TitansForecaster:
    """Return ours, untrained, for the wide frame."""
    return TitansForecaster(
        horizon=LENGTH, context_length=LENGTH, time_col="date",
        target_col=[name for name in frame.columns if name != "date"],
        device="cpu", random_state=0,
    )  # fmt: skip


def our_epoch(frame: pd.DataFrame) -> tuple[Callable[[], object], int]:
    """Return what trains a network of ours for an epoch, and on how many windows."""
    ours = forecaster(frame)
    settings = ForecastSettings.from_params(ours.get_params(deep=False))
    columns = settings.columns()
    table, rows = training_table(
        frame[: BORDERS[0]], columns, None, horizon=LENGTH, val_size=0, val_data=None
    )
    preprocess = Preprocess.learn(table, columns, rows)
    panel = preprocess.panel(table, columns)
    config = forecast_network_config(settings, preprocess)
    index, _ = split_windows(config, panel, rows)
    batches = WindowBatches(
        panel, index, context_length=LENGTH, horizon=LENGTH, seed=0,
        batch_size=settings.batch_size, per_epoch=len(index.cutoffs),
    )  # fmt: skip
    network = ForecastNetwork(config)
    once = TrainSettings(
        max_epochs=1, learning_rate=settings.learning_rate, average_weights=True, device="cpu"
    )
    return lambda: train(network, training_loss, batches, settings=once), len(index.cutoffs)


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the CPU seconds that some work takes."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def time_epochs(frame: pd.DataFrame, rounds: int) -> dict[str, Any]:
    """Let both take turns at an epoch; one turn before is not counted."""
    ours, windows = our_epoch(frame)
    theirs = Training(scaled(frame)[: BORDERS[0]], LENGTH, LENGTH)
    turns = [(cpu_seconds(ours), cpu_seconds(theirs.epoch)) for _ in range(rounds + 1)][1:]
    mine, other = zip(*turns, strict=True)
    return {
        "ours": {"seconds": statistics.median(mine), "windows": windows},
        "iTransformer": {
            "seconds": statistics.median(other),
            "windows": theirs.windows,
            "weights": sum(one.numel() for one in theirs.model.parameters()),
        },
        "ours_over_theirs": statistics.median(a / b for a, b in turns),
    }


def fit_both(frame: pd.DataFrame) -> dict[str, Any]:
    """Train both to their ends; return CPU seconds and errors on every test window."""
    ours = forecaster(frame)
    learnt = frame[: BORDERS[1]]
    seconds = cpu_seconds(lambda: ours.fit(learnt, val_size=BORDERS[1] - BORDERS[0]))
    found = ours.forecast_windows(frame, start=BORDERS[1])
    spread = frame.drop(columns="date")[: BORDERS[0]].std(ddof=0)
    missed = (found.point - found.actual) / spread.loc[found.ids].to_numpy()[:, None]

    rows = scaled(frame)
    theirs = Training(rows[: BORDERS[0]], LENGTH, LENGTH)
    errors: list[float] = []
    spent = cpu_seconds(lambda: errors.extend(theirs.fit(rows[BORDERS[0] - LENGTH : BORDERS[1]])))
    assert ours.history_ is not None
    epochs, error = len(ours.history_.epochs), theirs.error(rows[BORDERS[1] - LENGTH :])
    return {
        "ours": {"seconds": seconds, "epochs": epochs, "mse": float((missed**2).mean())},
        "iTransformer": {"seconds": spent, "epochs": len(errors), "mse": error},
    }


def show(found: dict[str, Any]) -> str:
    """Return the figures as lines."""
    lines = []
    for task, subjects in found.items():
        for subject in ("ours", "iTransformer"):
            words = [f"{name} {value:,.4g}" for name, value in subjects[subject].items()]
            lines.append(f"{task:6}{subject:14}{', '.join(words)}")
    lines.append(f"an epoch of ours takes {found['epoch']['ours_over_theirs']:.2f} of theirs")
    return "\n".join(lines)


def main() -> None:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="ETTh1.csv, perhaps compressed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fit", action="store_true", help="train both to their ends, too")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    logging.disable(logging.INFO)
    warnings.filterwarnings("ignore")
    frame = read(options.data)
    found = {"epoch": time_epochs(frame, options.rounds)}
    if options.fit:
        found["fit"] = fit_both(frame)
    print(show(found))
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        data = "noise on rhythms" if options.data is None else options.data.name
        write_json(options.out, {"environment": environment(), "data": data, "tasks": found})


if __name__ == "__main__":
    main()
