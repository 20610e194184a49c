"""Look for good settings of a forecaster with Optuna.

    pip install optuna
    python optuna_search.py --trials 20 --storage sqlite:///delays.db

Each trial trains on the first part of each series and is judged by rows that it has not seen.
With a common storage any number of processes, on any machines, may search at the same time:
each draws a trial of its own.
"""

from __future__ import annotations

import argparse

import optuna

from titans_seq.evaluation import data_path, read_card
from titans_seq.exceptions import DivergedError
from titans_seq.forecasting import TitansForecaster, read_frame


def main() -> None:
    """Search, and print the best settings."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument(
        "--rows", type=int, default=8760, help="Hours of each airport."
    )
    parser.add_argument(
        "--storage", help="Such as sqlite:///delays.db; by default in memory."
    )
    options = parser.parse_args()

    flights = read_frame(data_path(read_card("nyc13"), "hourly"))
    rows = flights.groupby("airport").head(options.rows)

    def loss(trial: optuna.Trial) -> float:
        forecaster = TitansForecaster(
            horizon=24,
            context_length=trial.suggest_categorical(
                "context_length", [48, 96, 168]
            ),
            variant=trial.suggest_categorical(
                "variant", ["mac", "mag", "mal", "attention"]
            ),
            dim=trial.suggest_categorical("dim", [16, 32, 64]),
            learning_rate=trial.suggest_float(
                "learning_rate", 3e-4, 1e-2, log=True
            ),
            id_col="airport",
            time_col="ds_utc",
            target_col="late",
            future=("scheduled",),
            max_epochs=options.epochs,
            random_state=0,
        )
        try:
            forecaster.fit(rows)
        except DivergedError as error:
            raise optuna.TrialPruned(str(error)) from error
        return float(forecaster.history_.best_loss)

    study = optuna.create_study(
        study_name="delays",
        storage=options.storage,
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(
            seed=0 if options.storage is None else None
        ),
    )
    study.optimize(loss, n_trials=options.trials)
    print(f"loss {study.best_value:.4f} with {study.best_params}")


if __name__ == "__main__":
    main()
