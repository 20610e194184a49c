"""Measure the skill that memories add to a streaming forecaster, and the cost of a row.

    python benchmarks/forecast_streams.py [--parts skill real surprise cost] [--seeds 0 1 2]
        [--data FOLDER] [--rows 1000000] [--out FILE]

``skill``: three streams with a known optimum (``synthetic/streams.py``), the memory carried along
and, with the same weights, reset one look-back before each forecast; 0 is the optimal forecast
from 96 rows, 1 that from all of the past. ``real``: vic_elec and bike_sharing_hourly, from
``--data``: scaled mean squared error over every window of the last fifth. ``surprise``: AUROC on
injected anomalies, beside the error of the window's own forecast one row ahead. ``cost``: bytes of
state and CPU time a row, early and late in a stream.

A value is read only after it was forecast. Results are added to those in FILE.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from memory_cells.machine import environment
from sklearn.metrics import roc_auc_score
from synthetic.anomalies import anomalous_series
from synthetic.streams import (
    ERA,
    HORIZON,
    WINDOW,
    FloatArray,
    IntArray,
    KnownStream,
    drift_stream,
    recall_stream,
)

from titans_seq.files import write_json
from titans_seq.forecasting import TitansForecaster
from titans_seq.forecasting.stream import ForecastStream

TRAIN_ROWS = 7_200
STRIDE = 13
"""Rows from one scored cutoff to the next in the synthetic streams."""

RESET_STRIDE = 4
"""Every so many of these cutoffs are also forecast with a reset memory."""

RESET_STRIDE_REAL = 97
"""The same for the real series, where every row is a cutoff."""

STREAMS: dict[str, Callable[[int], KnownStream]] = {
    "recall": lambda seed: recall_stream(3 * ERA, 7_680, seed),
    "drift": lambda seed: drift_stream(TRAIN_ROWS, 4_800, seed),
    "jumps": lambda seed: drift_stream(TRAIN_ROWS, 9_600, seed, walk=0.05, jump=0.02),
}

REAL = {
    "vic_elec": (["demand_mwh"], 48, "time_utc"),
    "bike_sharing_hourly": (["casual", "registered"], 24, "ds"),
}
"""Target columns, horizon and time column of the real series."""

ROWS_AT_ONCE = 256
"""Rows in one update where the cost of many rows at once is measured."""

TURNS_A_BLOCK = 10
"""Single-row updates between two updates of many rows."""

PARTS = ["skill", "real", "surprise", "cost"]

GOALS = {"recall": 0.7, "drift": 0.6, "jumps": 0.4, "vic_elec": 0.10, "bike_sharing_hourly": 0.45}


def measure_skill(name: str, seed: int, **settings: Any) -> dict[str, float]:
    """Return the skill with the memory carried, and with the memory reset, at the same cutoffs."""
    stream = STREAMS[name](seed)
    frame, begin = stream.frame(), stream.test_begin
    forecaster = TitansForecaster(horizon=HORIZON, context_length=None, random_state=seed)
    forecaster.set_params(**settings).fit(frame[:begin])
    # Nothing learnt from the training part helps in the test part, so the stream begins there.
    start = stream.score_begin - begin
    carried = forecaster.forecast_windows(frame[begin:], start=start, stride=STRIDE).point
    cutoffs = stream.score_begin + STRIDE * np.arange(len(carried))
    reset = _reset_points(forecaster, frame, cutoffs[::RESET_STRIDE])
    return {
        "carried": stream.skill(cutoffs, carried),
        "carried_some": stream.skill(cutoffs[::RESET_STRIDE], carried[::RESET_STRIDE]),
        "reset_some": stream.skill(cutoffs[::RESET_STRIDE], reset[:, 0]),
    }


def measure_real(name: str, folder: Path, seed: int, **settings: Any) -> dict[str, float]:
    """Return the scaled error on the last fifth: memory carried, and reset at some windows."""
    targets, horizon, time_col = REAL[name]
    frame = pd.read_csv(next(folder.rglob(f"{name}.csv.gz")))[[time_col, *targets]]
    test = len(frame) - int(0.2 * len(frame))
    forecaster = TitansForecaster(
        horizon=horizon,
        context_length=None,
        time_col=time_col,
        target_col=targets,
        random_state=seed,
    )
    forecaster.set_params(**settings).fit(frame[:test])
    windows = forecaster.forecast_windows(frame, start=test)
    # The windows come series after series; reorder them to (windows, series, horizon).
    point, actual = (
        values.reshape(len(targets), -1, horizon).swapaxes(0, 1)
        for values in (windows.point, windows.actual)
    )
    sample = np.arange(0, len(point), RESET_STRIDE_REAL)
    reset = _reset_points(forecaster, frame, test + sample)
    scale = np.array([forecaster.scale_std_[series] for series in targets])[:, None]

    def error(point: FloatArray, actual: FloatArray) -> float:
        return float(np.mean(((point - actual) / scale) ** 2))

    return {
        "carried": error(point, actual),
        "carried_some": error(point[sample], actual[sample]),
        "reset_some": error(reset, actual[sample]),
        "windows": actual.shape[0] * actual.shape[1],
    }


def _reset_points(
    forecaster: TitansForecaster, frame: pd.DataFrame, cutoffs: IntArray
) -> FloatArray:
    """Return forecasts of memories that read one look-back each, (cutoffs, series, horizon)."""
    frames = [forecaster.predict(frame[cutoff - WINDOW : cutoff]) for cutoff in cutoffs]
    return np.stack([f["y_pred"].to_numpy().reshape(-1, forecaster.horizon) for f in frames])


def measure_surprise(seed: int, **settings: Any) -> dict[str, float]:
    """Return the AUROC of the surprise, and of the window's error one row ahead."""
    begin, rows = 4_200, 7_200
    series = anomalous_series(rows, begin, seed)
    frame = series.frame()
    forecaster = TitansForecaster(horizon=HORIZON, context_length=WINDOW, random_state=seed)
    forecaster.set_params(**settings).fit(frame[:begin])
    stream = forecaster.stream(frame[:begin]).update(frame[begin:])
    surprise = stream.surprise
    windows = forecaster.forecast_windows(frame, start=begin)
    residual = np.abs(windows.point[:, 0] - windows.actual[:, 0])
    scores = {}
    for kind in ("point", "contextual"):
        positive = getattr(series, kind)[begin:]
        other_kind = (series.point | series.contextual)[begin:] & ~positive
        for name, score in (("surprise", surprise["surprise"].to_numpy()), ("residual", residual)):
            kept = ~other_kind[: len(score)]
            truth = positive[: len(score)][kept]
            scores[f"{kind}_{name}"] = float(roc_auc_score(truth, score[kept]))
    calm = ~(series.point | series.contextual)[begin:]
    scores["calm_below_5_percent"] = float((surprise["p_value"][calm] < 0.05).mean())
    return scores


def measure_cost(rows: int, turns: int = 200) -> dict[str, float]:
    """Return the size of the state and CPU time of a row, early in a stream and after ``rows``."""
    early_rows = min(1_000, rows)
    ahead = turns * (1 + ROWS_AT_ONCE // TURNS_A_BLOCK) + ROWS_AT_ONCE
    frame = anomalous_series(rows + ahead, rows + ahead, 0).frame()
    forecaster = TitansForecaster(
        horizon=HORIZON, context_length=WINDOW, max_epochs=1, random_state=0
    ).fit(frame[: min(2_000, rows)])
    early = forecaster.stream(frame[:early_rows])  # the first stream also trains the mixture
    before = time.process_time()
    late = forecaster.stream(frame[:rows])
    whole = time.process_time() - before
    streams = {"early": early, "late": late}
    figures = {"rows_early": early_rows, "rows_late": rows, "ms_a_row_read": 1e3 * whole / rows}
    figures |= {f"bytes_{name}": stream.nbytes for name, stream in streams.items()}
    figures |= _cost_ratios(streams, frame, turns)
    return figures | {"restored_equal": float(_restored_equal(forecaster, late, frame))}


def _cost_ratios(
    streams: dict[str, ForecastStream], frame: pd.DataFrame, turns: int
) -> dict[str, float]:
    """Return the median CPU time of a row, alone and among many, for each stream.

    The streams take turns, so that a slow moment of the machine hits both.
    """
    seconds: dict[str, list[float]] = {}
    for turn in range(turns):
        for name, stream in streams.items():
            row = sum(stream.rows.values())
            before = time.process_time()
            stream.update(frame[row : row + 1])
            stream.forecast()
            after = time.process_time()
            seconds.setdefault(f"ms_row_{name}", []).append(after - before)
            if turn % TURNS_A_BLOCK == 0:
                stream.update(frame[row + 1 : row + 1 + ROWS_AT_ONCE])
                seconds_a_row = (time.process_time() - after) / ROWS_AT_ONCE
                seconds.setdefault(f"ms_of_many_{name}", []).append(seconds_a_row)
    return {name: 1e3 * statistics.median(times) for name, times in seconds.items()}


def _restored_equal(
    forecaster: TitansForecaster, stream: ForecastStream, frame: pd.DataFrame
) -> bool:
    """Return whether a saved and loaded stream continues bit for bit like the original."""
    row = sum(stream.rows.values())
    with tempfile.TemporaryDirectory() as folder:
        stream.save(Path(folder) / "state")
        twin = forecaster.load_stream(Path(folder) / "state")
    next_rows = frame[row : row + ROWS_AT_ONCE]
    same = stream.update(next_rows).digest() == twin.update(next_rows).digest()
    return same and stream.forecast().equals(twin.forecast())


def medians(measured: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return the median over seeds of each figure; the keys of ``measured`` are name/seed."""
    by_name: dict[str, list[dict[str, float]]] = {}
    for name, figures in measured.items():
        by_name.setdefault(name.split("/")[0], []).append(figures)
    return {
        name: {key: statistics.median(figures[key] for figures in runs) for key in runs[0]}
        for name, runs in by_name.items()
    }


def main() -> None:
    """Measure the selected parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--streams", nargs="+", choices=list(STREAMS), default=list(STREAMS))
    parser.add_argument("--sets", nargs="+", default=["vic_elec", "bike_sharing_hourly"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="max_epochs of the networks")
    parser.add_argument("--data", type=Path, help="folder with the .csv.gz files of the real sets")
    parser.add_argument(
        "--rows", type=int, default=1_000_000, help="length of the stream of `cost`"
    )
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "forecast-streams-cpu.json"
    )
    args = parser.parse_args()
    if "real" in args.parts and args.data is None:
        parser.error("--parts real needs --data")
    torch.set_num_threads(1)
    settings = {} if args.epochs is None else {"max_epochs": args.epochs}

    def keep(part: str, name: str, figures: dict[str, float]) -> None:
        # Read again: another process may have added its results meanwhile.
        results = json.loads(args.out.read_text()) if args.out.exists() else {}
        results.setdefault(part, {})[name] = figures
        results["environment"], results["goals"] = environment(), GOALS
        results["medians"] = {key: medians(results[key]) for key in PARTS if key in results}
        write_json(args.out, results)
        print(part, name, {key: round(value, 4) for key, value in figures.items()}, flush=True)

    for part in args.parts:
        if part == "cost":
            keep(part, f"{args.rows} rows", measure_cost(args.rows))
            continue
        for seed in args.seeds:
            if part == "skill":
                for name in args.streams:
                    keep(part, f"{name}/{seed}", measure_skill(name, seed, **settings))
            elif part == "real":
                for name in args.sets:
                    keep(part, f"{name}/{seed}", measure_real(name, args.data, seed, **settings))
            else:
                keep(part, f"anomalies/{seed}", measure_surprise(seed, **settings))


if __name__ == "__main__":
    main()
