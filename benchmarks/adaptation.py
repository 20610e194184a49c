"""Compare memories with and without adaptation, on streams like the training and unlike it.

    python benchmarks/adaptation.py [--seeds 0 1 2] [--train drift jumps] [--out FILE]

A forecaster with memories is trained on one drifting stream (``synthetic/streams.py``) and reads
the test parts of others from their first row on, with and without ``adapt``: levels that walk as
in training, that walk five times as fast, and that are drawn anew now and then. Every value is
read after it was forecast. Errors are mean squared, the noise on a row having variance 1, beside
that of the optimal forecast from the whole past. Results are added to those in FILE.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from memory_cells.machine import environment
from synthetic.streams import HORIZON, drift_stream

from titans_seq.files import write_json
from titans_seq.forecasting import TitansForecaster

TRAIN_ROWS, TEST_ROWS, STRIDE = 7_200, 9_600, 13

KINDS: dict[str, dict[str, float]] = {
    "drift": {"walk": 0.1},
    "fast": {"walk": 0.5},
    "jumps": {"walk": 0.05, "jump": 0.02},
}

OTHER_SEED = 100
"""Added to the seed of a test stream, so that its levels are not those of the training."""


def measure(train: str, seed: int) -> dict[str, dict[str, float]]:
    """Return the errors on a stream of each kind after training on one."""
    training = drift_stream(TRAIN_ROWS, HORIZON, seed, **KINDS[train])
    forecaster = TitansForecaster(
        horizon=HORIZON, context_length=None, quantiles=(), max_epochs=2, random_state=seed
    )
    forecaster.fit(training.frame()[:TRAIN_ROWS], val_size=int(0.15 * TRAIN_ROWS))
    return {test: _errors(forecaster, test, seed + OTHER_SEED) for test in KINDS}


def _errors(forecaster: TitansForecaster, test: str, seed: int) -> dict[str, float]:
    """Return the errors with and without adaptation, and that of the optimal forecast."""
    stream = drift_stream(TRAIN_ROWS, TEST_ROWS, seed, **KINDS[test])
    rows, start = stream.frame()[stream.test_begin :], stream.score_begin - stream.test_begin
    figures: dict[str, float] = {}
    for name, adapt in (("memory", False), ("adapted", True)):
        before = time.process_time()
        windows = forecaster.set_params(adapt=adapt).forecast_windows(
            rows, start=start, stride=STRIDE
        )
        figures[f"{name}_seconds"] = time.process_time() - before
        cutoffs = stream.score_begin + STRIDE * np.arange(len(windows.point))
        figures[name] = float(np.mean((windows.point - stream.target(cutoffs)) ** 2))
    best = stream.best(cutoffs) - stream.target(cutoffs)
    return figures | {"best": float(np.mean(best**2))}


def main() -> None:
    """Train on each selected kind of stream and measure on all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", nargs="+", choices=list(KINDS), default=["drift", "jumps"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    default = Path(__file__).parent / "results" / "adaptation-cpu.json"
    parser.add_argument("--out", type=Path, default=default)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for seed in args.seeds:
        for train in args.train:
            errors = measure(train, seed)
            results: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {}
            results.setdefault("errors", {})[f"{train}/{seed}"] = errors
            results["environment"] = environment()
            write_json(args.out, results)
            for test, figures in errors.items():
                rounded = {name: round(value, 3) for name, value in figures.items()}
                print(train, seed, "on", test, rounded, flush=True)


if __name__ == "__main__":
    main()
