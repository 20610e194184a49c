"""Train a forecaster on the workers of a Ray cluster.

    pip install 'ray[train]'
    python ray_train.py --workers 2 --out delays

Ray starts the workers and makes them one group; inside ``distributed()`` they train one model.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray.train
from ray.train import Checkpoint, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer


def train_on_worker(settings: dict[str, Any]) -> None:
    """Fit on this worker together with all others; the first one hands in the model."""
    from titans_seq.evaluation import data_path, read_card
    from titans_seq.forecasting import TitansForecaster, read_frame
    from titans_seq.training import distributed

    flights = read_frame(data_path(read_card("nyc13"), "hourly"))
    with distributed() as mine:
        forecaster = TitansForecaster(
            horizon=24,
            context_length=168,
            id_col="airport",
            time_col="ds_utc",
            target_col="late",
            future=("scheduled",),
            max_epochs=settings["epochs"],
            random_state=0,
        ).fit(flights.groupby("airport").head(settings["rows"]))
    history = forecaster.history_
    metrics = {
        "loss": history.best_loss,
        "steps": history.steps,
        "workers": mine.size,
    }
    with TemporaryDirectory() as folder:
        forecaster.save(folder)
        model = Checkpoint.from_directory(folder) if mine.rank == 0 else None
        ray.train.report(metrics, checkpoint=model)


def main() -> None:
    """Ask Ray for workers, and train."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--gpu", action="store_true", help="One for each worker."
    )
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument(
        "--rows", type=int, default=8760, help="Hours of each airport."
    )
    parser.add_argument("--out", type=Path, default=Path("delays"))
    options = parser.parse_args()
    trainer = TorchTrainer(
        train_on_worker,
        train_loop_config={"epochs": options.epochs, "rows": options.rows},
        torch_config=TorchConfig(backend="nccl" if options.gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=options.workers, use_gpu=options.gpu
        ),
        run_config=RunConfig(
            storage_path=str(options.out.resolve().parent / "ray-results")
        ),
    )
    result = trainer.fit()
    found = result.metrics
    result.checkpoint.to_directory(options.out)
    print(
        f"loss {found['loss']:.4f} in {found['steps']} steps of {found['workers']} workers"
    )
    print(f"model {options.out}")


if __name__ == "__main__":
    main()
