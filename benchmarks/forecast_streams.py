"""What the memories of a streaming forecaster are worth, and what a row costs.

    python benchmarks/forecast_streams.py [--parts skill real surprise cost] [--seeds 0 1 2]
        [--data FOLDER] [--rows 1000000] [--out FILE]

``skill``: three streams with a known optimum (``titans_seq.evaluation.streams``), the memory
carried along and, with the same weights, reset one look-back before each forecast; 0 is the best
possible from 96 rows, 1 from all of the past. ``real``: vic_elec and bike_sharing_hourly, from
``--data``, scaled mean squared error over every window of the last fifth. ``surprise``: AUROC on
injected anomalies, beside the error of the window's own forecast one row ahead. ``cost``: bytes of
state and CPU a row early and late in a stream.

A value is fed only after it was forecast. Figures are added to those in FILE.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from copy import copy
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from memory_cells.machine import environment

from titans_seq.evaluation.anomalies import anomalous_series, auroc
from titans_seq.evaluation.streams import (
    ERA,
    HORIZON,
    WINDOW,
    KnownStream,
    drift_stream,
    recall_stream,
)
from titans_seq.files import write_json
from titans_seq.forecasting import TitansForecaster

TRAIN_ROWS = 7_200
STRIDE = 13
"""Rows from one scored cutoff to the next in the synthetic streams."""

RESET_STRIDE = 4
"""Of those, every how many-th is forecast with a reset memory too."""

REAL_STRIDE = 97
"""Rows from one such cutoff to the next in real data."""

STREAMS: dict[str, Callable[[int], KnownStream]] = {
    "recall": lambda seed: recall_stream(3 * ERA, 7_680, seed),
    "drift": lambda seed: drift_stream(TRAIN_ROWS, 4_800, seed),
    "jumps": lambda seed: drift_stream(TRAIN_ROWS, 9_600, seed, walk=0.05, jump=0.02),
}

GOALS = {"recall": 0.7, "drift": 0.6, "jumps": 0.4, "vic_elec": 0.10, "bike_sharing_hourly": 0.45}


def measure_skill(name: str, seed: int) -> dict[str, float]:
    """Return the skill with the memory carried, and with it reset, at the same cutoffs."""
    stream = STREAMS[name](seed)
    frame, begin = stream.frame(), stream.test_begin
    forecaster = TitansForecaster(
        horizon=HORIZON, context_length=None, quantiles=(), max_epochs=2, random_state=seed
    )
    forecaster.fit(frame[:begin], val_size=int(0.15 * begin))
    # Nothing of the training part helps in the test part, so the stream begins there.
    start = stream.score_begin - begin

    def skill(stride: int, *, reset: bool = False) -> float:
        found = forecaster.forecast_windows(frame[begin:], start=start, stride=stride, reset=reset)
        cutoffs = stream.score_begin + stride * np.arange(len(found.point))
        return stream.skill(cutoffs, found.point)

    return {
        "carried": skill(STRIDE),
        "carried_some": skill(STRIDE * RESET_STRIDE),
        "reset_some": skill(STRIDE * RESET_STRIDE, reset=True),
    }


def measure_real(name: str, folder: Path, epochs: int) -> dict[str, float]:
    """Return the scaled error on the last fifth: window alone, memory carried, memory reset."""
    frame = pd.read_csv(next(folder.rglob(f"{name}.csv.gz")))
    if name == "vic_elec":
        targets, horizon, time_col = ["demand_mwh"], 48, "time_utc"
    else:
        targets, horizon, time_col = ["casual", "registered"], 24, "ds"
    rows = len(frame)
    train, test = int(0.7 * rows), rows - int(0.2 * rows)
    forecaster = TitansForecaster(
        horizon=horizon,
        context_length=None,
        time_col=time_col,
        target_col=targets,
        quantiles=(),
        max_epochs=epochs,
        random_state=0,
    )
    forecaster.fit(frame[[time_col, *targets]][:test], val_size=test - train)
    whole = frame[[time_col, *targets]]

    def error(own: TitansForecaster, stride: int, *, reset: bool = False) -> float:
        found = own.forecast_windows(whole, start=test, stride=stride, reset=reset)
        scale = np.array([forecaster.scale_std_[series] for series in found.ids])[:, None]
        return float(np.nanmean(((found.point - found.actual) / scale) ** 2))

    # The same network without the memories around it.
    window = copy(forecaster).set_params(context_length=WINDOW)
    return {
        "window": error(window, 1),
        "carried": error(forecaster, 1),
        "carried_some": error(forecaster, REAL_STRIDE),
        "reset_some": error(forecaster, REAL_STRIDE, reset=True),
    }


def measure_surprise(seed: int) -> dict[str, float]:
    """Return the AUROC of the surprise, and of the window's error one row ahead."""
    begin, rows = 4_200, 7_200
    series = anomalous_series(rows, begin, seed)
    frame = series.frame()
    forecaster = TitansForecaster(
        horizon=HORIZON, context_length=WINDOW, quantiles=(), max_epochs=2, random_state=seed
    ).fit(frame[:begin])
    stream = forecaster.stream(frame[:begin]).update(frame[begin:])
    found = stream.surprise
    windows = forecaster.forecast_windows(frame, start=begin)
    residual = np.abs(windows.point[:, 0] - windows.actual[:, 0])
    scores = {}
    for kind in ("point", "contextual"):
        positive = getattr(series, kind)[begin:]
        other = (series.point | series.contextual)[begin:] & ~positive
        for name, score in (("surprise", found["surprise"].to_numpy()), ("residual", residual)):
            kept = ~other[: len(score)]
            scores[f"{kind}_{name}"] = auroc(score[kept], positive[: len(score)][kept])
    calm = ~(series.point | series.contextual)[begin:]
    scores["calm_below_5_percent"] = float((found["p_value"][calm] < 0.05).mean())
    return scores


def measure_cost(rows: int) -> dict[str, float]:
    """Return bytes of state and CPU seconds of a row, early in a stream and after ``rows``."""
    series = anomalous_series(rows + 3_000, rows + 3_000, 0)
    frame = series.frame()
    forecaster = TitansForecaster(
        horizon=HORIZON, context_length=WINDOW, quantiles=(), max_epochs=1, random_state=0
    ).fit(frame[:2_000])
    early = forecaster.stream(frame[:1_000])
    late = forecaster.stream(frame[:rows])
    seconds: dict[str, list[float]] = {"early": [], "late": []}
    for turn in range(60):  # in turns, so that a slow moment of the machine hits both
        for name, stream, begin in (("early", early, 1_000), ("late", late, rows)):
            row = frame[begin + turn : begin + turn + 1]
            before = time.process_time()
            stream.update(row)
            stream.forecast()
            seconds[name].append(time.process_time() - before)
    return {
        "rows_early": 1_000,
        "rows_late": rows,
        "bytes_early": early.nbytes,
        "bytes_late": late.nbytes,
        "ms_early": 1e3 * statistics.median(seconds["early"]),
        "ms_late": 1e3 * statistics.median(seconds["late"]),
    }


def main() -> None:
    """Measure the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    whole = ["skill", "real", "surprise", "cost"]
    parser.add_argument("--parts", nargs="+", choices=whole, default=whole)
    parser.add_argument("--streams", nargs="+", choices=list(STREAMS), default=list(STREAMS))
    parser.add_argument("--sets", nargs="+", default=["vic_elec", "bike_sharing_hourly"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=4, help="of the window's network, real data")
    parser.add_argument("--data", type=Path, help="folder with vic_elec.csv.gz and the other")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the stream of `cost`")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "forecast-streams-cpu.json"
    )
    given = parser.parse_args()
    if "real" in given.parts and given.data is None:
        parser.error("--parts real needs --data")
    torch.set_num_threads(1)
    results = json.loads(given.out.read_text()) if given.out.exists() else {}

    def keep(part: str, name: str, figures: dict[str, float]) -> None:
        again = json.loads(given.out.read_text()) if given.out.exists() else results
        again.setdefault(part, {})[name] = figures
        again["environment"], again["goals"] = environment(), GOALS
        write_json(given.out, again)
        print(part, name, {key: round(value, 4) for key, value in figures.items()}, flush=True)

    for part in given.parts:
        if part == "skill":
            for seed in given.seeds:
                for name in given.streams:
                    keep(part, f"{name}/{seed}", measure_skill(name, seed))
        elif part == "real":
            for name in given.sets:
                keep(part, name, measure_real(name, given.data, given.epochs))
        elif part == "surprise":
            for seed in given.seeds:
                keep(part, f"anomalies/{seed}", measure_surprise(seed))
        else:
            keep(part, f"{given.rows} rows", measure_cost(given.rows))


if __name__ == "__main__":
    main()
