"""``titans-seq forecast``: tables of time series in, forecasts out."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .forecast_backtest import backtest, plot
from .forecast_options import (
    COLUMN_OPTIONS,
    FUTURE_DATA,
    QUANTILES,
    SETTINGS,
    SPLIT,
    Columns,
    Settings,
    levels,
)
from .forecast_stream import stream
from .options import (
    DATA,
    FORCE,
    MODEL_IN,
    MODEL_OUT,
    SCORES_OUT,
    OutFile,
    option_group,
)
from .processes import shared
from .tables import WRITERS, show_scores, write_table
from .training import (
    OVERRIDES,
    RESUME,
    build,
    check_model_out,
    checkpointed,
    progress,
    report_training,
)

if TYPE_CHECKING:
    from titans_seq.evaluation import Split

COLUMNS = ("mse", "mae", "pinball", "coverage", "windows")


@click.group()
def forecast() -> None:
    """Forecast time series.

    Input is a table .csv, .csv.gz, .tsv or .parquet: in long form, a row for each series and
    time; or in wide form, a column for each series, named by --target-col.
    """


@forecast.command()
@click.argument("data", type=DATA)
@option_group("settings", Settings, *SETTINGS)
@option_group("columns", Columns, *COLUMN_OPTIONS)
@OVERRIDES
@SPLIT
@MODEL_OUT
@FORCE
@RESUME
@shared
@click.pass_context
def fit(
    ctx: click.Context,
    data: Path,
    settings: Settings,
    columns: Columns,
    overrides: tuple[str, ...],
    split: str | None,
    model: Path,
    force: bool,
    resume: bool,
) -> None:
    """Train a forecaster on a table and write it to a model folder.

    With --split, the test part is kept out of the training, and `evaluate` scores it. Stopped
    by Ctrl-C, or killed, the same command with --resume goes on.

    \b
    Example:
      titans-seq forecast fit sales.csv --horizon 24 --future price --model shop
    """
    check_model_out(model, force=force)
    from titans_seq.bundles import CONFIG
    from titans_seq.evaluation import Split
    from titans_seq.evaluation.forecasts.series import rows_before_test
    from titans_seq.files import write_whole_folder
    from titans_seq.forecasting import TitansForecaster, read_frame

    parts = None if split is None else Split.parse(split)
    values = {**asdict(settings), **asdict(columns)}
    if len(columns.target_col) == 1:
        values["target_col"] = columns.target_col[0]
    forecaster = build(TitansForecaster, values, overrides)
    frame, val_size = read_frame(data), None
    if parts is not None:
        frame, val_size = rows_before_test(
            frame, parts, id_col=columns.id_col, time_col=columns.time_col, source=str(data)
        )
    with checkpointed(model, forecaster.get_params(), [data], resume=resume, force=force):
        with progress(ctx):
            forecaster.fit(frame, val_size=val_size)
        with write_whole_folder(model, force=force, marker=CONFIG) as folder:
            forecaster.save(folder)
            if parts is not None:
                _note_split(folder, parts)
    what = f"{len(forecaster.scale_mean_)} series, {len(frame)} rows"
    report_training(model, what, forecaster.history_.to_table())


@forecast.command()
@click.argument("data", type=DATA)
@MODEL_IN
@FUTURE_DATA
@QUANTILES
@levels()
@click.option(
    "--out",
    type=OutFile(*WRITERS),
    default="-",
    help="Table .csv, .tsv, .jsonl or .parquet; by default CSV on standard output.",
)
@shared
def predict(
    data: Path,
    model: Path,
    future_data: Path | None,
    quantiles: tuple[float, ...] | None,
    levels: tuple[float, ...] | None,
    out: Path,
) -> None:
    """Forecast the rows that follow those of DATA.

    Writes a row for each series and time: the expected value, and its quantiles, those of the
    model unless others, or intervals, are asked for.

    \b
    Example:
      titans-seq forecast predict sales.csv --model shop --future-data plan.csv
    """
    from titans_seq.forecasting import TitansForecaster, read_frame

    forecaster = TitansForecaster.load(model)
    ahead = None if future_data is None else read_frame(future_data)
    found = forecaster.predict(read_frame(data), ahead, quantiles=quantiles, levels=levels)
    write_table(found, out, plain=".csv")


@forecast.command()
@click.argument("data", type=DATA)
@MODEL_IN
@SPLIT
@click.option(
    "--stride",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Rows from one window to the next; the usual protocol scores every one.",
)
@SCORES_OUT
def evaluate(data: Path, model: Path, split: str | None, stride: int, out: Path | None) -> None:
    """Score every window of the test part, beside simple forecasts.

    DATA holds all rows, those of the training too: errors are on the scale of these. The split
    is that of `fit` unless it is given.

    \b
    Example:
      titans-seq forecast evaluate ETTh1.csv --model etth1 --split 8640,2880,2880
    """
    from titans_seq.evaluation import Split, score_forecast_controls, score_forecaster
    from titans_seq.evaluation.forecasts.series import checked_times
    from titans_seq.forecasting import TitansForecaster, read_frame

    forecaster = TitansForecaster.load(model)
    parts = Split.parse(split or _noted_split(model))
    roles = {name: getattr(forecaster, name) for name in ("id_col", "time_col", "target_col")}
    frame = read_frame(data)
    if forecaster.time_col is not None:
        frame[forecaster.time_col] = checked_times(
            frame, id_col=forecaster.id_col, time_col=forecaster.time_col, source=str(data)
        )
    scores = {"titans-seq": score_forecaster(forecaster, frame, parts, stride=stride)}
    scores |= score_forecast_controls(
        frame,
        parts,
        horizon=forecaster.horizon,
        look_back=forecaster.network_.config.context_length,
        future=forecaster.future,
        stride=stride,
        **roles,
    )
    title = f"{data}, {forecaster.horizon} rows ahead, test part of {parts}, scaled by train rows"
    show_scores(title, scores, COLUMNS, out)


forecast.add_command(backtest)
forecast.add_command(plot)
forecast.add_command(stream)


def _note_split(folder: Path, split: Split) -> None:
    """Keep the split beside the model's other figures, for `evaluate`."""
    from titans_seq.bundles import METRICS
    from titans_seq.files import write_json

    figures = json.loads((folder / METRICS).read_text("utf-8"))
    write_json(folder / METRICS, {**figures, "split": str(split)})


def _noted_split(model: Path) -> str:
    """Return the split that `fit` was given."""
    from titans_seq.bundles import METRICS

    split = json.loads((model / METRICS).read_text("utf-8")).get("split")
    if split is None:
        raise click.UsageError(f"{model} was fitted without --split: say which part is the test")
    return str(split)
