"""Time the forecaster beside pytorch-forecasting's models: windows, an epoch, one forecast.

    python benchmarks/forecasting.py [--rows 4000] [--batches 20] [--rounds 5] [--out FILE]

On the same synthetic series, hourly and noisy, each subject takes its turn in every round, on
one thread; figures are CPU seconds of the process, and a ratio is the median over the rounds of
one subject's over ours, so that a slow moment of the machine hits both.

windows   cutting shuffled batches out of the series, and nothing else
epoch     training steps, loader included, scaled to all windows of the series
predict   one series' frame in, its forecast as a frame out

TimeSeriesDataSet's loader has no workers, as ours. N-HiTS and the Temporal Fusion Transformer
have their own default sizes, with the same look-back, horizon, batch and optimizer.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from memory_cells.machine import environment

from titans_seq.files import write_json
from titans_seq.forecasting import TitansForecaster
from titans_seq.forecasting.learning.losses import training_loss
from titans_seq.forecasting.learning.windows import WindowBatches, index_windows

OURS = "ours"
PRINT = {"windows": "windows/s", "epoch": "s per epoch", "predict": "ms per forecast"}
Task = Callable[[], float]
"""Does a turn's work and returns CPU seconds for one unit of it."""


def make_series(series: int, rows: int) -> pd.DataFrame:
    """Return series with the rhythms of a day and a week, and noise."""
    rng = np.random.default_rng(0)
    hours = np.arange(rows)
    parts = []
    for number in range(series):
        daily = np.sin(2 * np.pi * (hours / 24 + number / series))
        weekly = np.sin(2 * np.pi * hours / 168)
        noise = rng.normal(scale=0.3, size=rows)
        times = pd.date_range("2020-01-01", periods=rows, freq="h")
        name = f"series {number}"
        parts.append(pd.DataFrame({"unique_id": name, "ds": times, "y": daily + weekly + noise}))
    return pd.concat(parts, ignore_index=True)


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the CPU seconds that some work takes."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


class Ours:
    """The forecaster, its loader and its network."""

    def __init__(self, frame: pd.DataFrame, options: argparse.Namespace) -> None:
        self.batches, self.batch = options.batches, options.batch
        self.forecaster = TitansForecaster(
            horizon=options.horizon, context_length=options.context, max_epochs=1, device="cpu",
            random_state=0,
        )  # fmt: skip
        short = frame.groupby("unique_id").tail(3 * options.context + 2 * options.horizon)
        self.forecaster.fit(short)  # a little training: time does not depend on the weights
        self.one = frame[frame["unique_id"] == "series 0"].tail(3 * options.context)
        table = self.forecaster._read(frame, "frame")
        panel = self.forecaster.preprocess_.panel(table, self.forecaster._settings().columns())
        rows = panel.starts.diff().tolist()
        begins = [options.context] * len(rows)
        index = index_windows(panel, begins, rows, horizon=options.horizon)
        self.windows_of_an_epoch = len(index.cutoffs)
        self.loader = WindowBatches(
            panel, index, context_length=options.context, horizon=options.horizon,
            batch_size=options.batch, per_epoch=len(index.cutoffs), seed=0,
        )  # fmt: skip
        self.optimizer = torch.optim.AdamW(self.forecaster.network_.parameters(), lr=1e-3)

    def windows(self) -> float:
        """Cut batches."""
        stream: Iterator[Any] = islice(cycle(self.loader), 10 * self.batches)
        return cpu_seconds(lambda: sum(1 for _ in stream)) / (10 * self.batches * self.batch)

    def epoch(self) -> float:
        """Train on some batches."""
        network = self.forecaster.network_.train()

        def steps() -> None:
            for batch in islice(self.loader, self.batches):
                self.optimizer.zero_grad()
                training_loss(network, batch).backward()
                self.optimizer.step()

        seconds = cpu_seconds(steps)
        network.eval()
        return seconds * self.windows_of_an_epoch / (self.batches * self.batch)

    def predict(self) -> float:
        """Forecast one series a few times."""
        times = 10
        return (
            cpu_seconds(lambda: [self.forecaster.predict(self.one) for _ in range(times)]) / times
        )


class Theirs:
    """A model of pytorch-forecasting on a TimeSeriesDataSet."""

    def __init__(self, frame: pd.DataFrame, options: argparse.Namespace, model: str) -> None:
        from pytorch_forecasting import NHiTS, TemporalFusionTransformer, TimeSeriesDataSet
        from pytorch_forecasting.metrics import QuantileLoss

        self.batches, self.batch = options.batches, options.batch
        self.horizon, self.context = options.horizon, options.context
        numbered = frame.assign(time_idx=frame.groupby("unique_id").cumcount())
        self.dataset = TimeSeriesDataSet(
            numbered, time_idx="time_idx", target="y", group_ids=["unique_id"],
            max_encoder_length=options.context, min_encoder_length=options.context,
            max_prediction_length=options.horizon, time_varying_unknown_reals=["y"],
        )  # fmt: skip
        loss = QuantileLoss([0.1, 0.5, 0.9])
        kinds = {"N-HiTS": NHiTS, "TFT": TemporalFusionTransformer}
        self.model = kinds[model].from_dataset(self.dataset, loss=loss)
        self.loader = self.dataset.to_dataloader(
            train=True, batch_size=options.batch, num_workers=0
        )
        self.windows_of_an_epoch = len(self.dataset)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self.one = numbered[numbered["unique_id"] == "series 0"].tail(3 * options.context)

    def windows(self) -> float:
        """Cut batches."""
        stream: Iterator[Any] = islice(iter(self.loader), self.batches)
        return cpu_seconds(lambda: sum(1 for _ in stream)) / (self.batches * self.batch)

    def epoch(self) -> float:
        """Train on some batches."""
        self.model.train()

        def steps() -> None:
            for x, y in islice(self.loader, self.batches):
                self.optimizer.zero_grad()
                self.model.loss(self.model(x)["prediction"], y).backward()
                self.optimizer.step()

        seconds = cpu_seconds(steps)
        return seconds * self.windows_of_an_epoch / (self.batches * self.batch)

    def predict(self) -> float:
        """Forecast one series a few times, with the made-up rows that it asks for."""
        times = 3
        quiet = {"logger": False, "accelerator": "cpu", "enable_progress_bar": False,
                 "enable_model_summary": False}  # fmt: skip

        def once() -> None:
            last = self.one.iloc[-1]
            ahead = pd.DataFrame(
                {
                    "unique_id": last["unique_id"], "y": 0.0,
                    "ds": pd.date_range(last["ds"], periods=self.horizon + 1, freq="h")[1:],
                    "time_idx": last["time_idx"] + 1 + np.arange(self.horizon),
                }
            )  # fmt: skip
            whole = pd.concat([self.one, ahead], ignore_index=True)
            self.model.predict(whole, mode="quantiles", trainer_kwargs=dict(quiet))

        return cpu_seconds(lambda: [once() for _ in range(times)]) / times


def measure(tasks: dict[str, dict[str, Task]], rounds: int) -> dict[str, Any]:
    """Let the subjects of each task take turns; return medians and ratios.

    Parameters
    ----------
    tasks
        By name of the task, by name of the subject.
    rounds
        Turns of each subject; one turn before them is not counted.
    """
    found: dict[str, Any] = {}
    for name, subjects in tasks.items():
        turns: dict[str, list[float]] = {subject: [] for subject in subjects}
        for number in range(rounds + 1):
            for subject, task in subjects.items():
                seconds = task()
                if number:
                    turns[subject].append(seconds)
        found[name] = {
            subject: {
                "seconds": statistics.median(own),
                "over_ours": statistics.median(
                    one / ours for one, ours in zip(own, turns[OURS], strict=True)
                ),
            }
            for subject, own in turns.items()
        }
    return found


def show(found: dict[str, Any]) -> str:
    """Return the figures as lines."""
    lines = []
    for name, subjects in found.items():
        for subject, figures in subjects.items():
            seconds = figures["seconds"]
            shown = {"windows": 1 / seconds, "epoch": seconds, "predict": 1000 * seconds}[name]
            lines.append(
                f"{name:8} {subject:18} {shown:12,.1f} {PRINT[name]:16}"
                f"{figures['over_ours']:8.1f} x ours"
            )
    return "\n".join(lines)


def main() -> None:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("series", 7), ("rows", 4000), ("context", 96), ("horizon", 96),
                          ("batch", 128), ("batches", 10), ("rounds", 5)):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    logging.disable(logging.INFO)
    warnings.filterwarnings("ignore")
    frame = make_series(options.series, options.rows)
    ours = Ours(frame, options)
    others = {name: Theirs(frame, options, name) for name in ("N-HiTS", "TFT")}
    tasks: dict[str, dict[str, Task]] = {
        "windows": {OURS: ours.windows, "TimeSeriesDataSet": others["N-HiTS"].windows},
        "epoch": {OURS: ours.epoch, **{name: one.epoch for name, one in others.items()}},
        "predict": {OURS: ours.predict, **{name: one.predict for name, one in others.items()}},
    }
    found = measure(tasks, options.rounds)
    print(show(found))
    if options.out is not None:
        sizes = {name: value for name, value in vars(options).items() if name != "out"}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.out, {"environment": environment(), "sizes": sizes, "tasks": found})


if __name__ == "__main__":
    main()
