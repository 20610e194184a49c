"""``titans-seq forecast``: train, predict and evaluate on tables of time series."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .forecast_backtest import forecast_backtest, forecast_plot
from .forecast_options import (
    COLUMN_OPTIONS,
    FUTURE_DATA_OPTION,
    QUANTILES_OPTION,
    SETTING_OPTIONS,
    SPLIT_OPTION,
    FitSettings,
    ForecastColumns,
    levels_option,
)
from .forecast_stream import forecast_stream
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
from .tables import TABLE_SUFFIXES, show_scores, write_table
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
    pass

_SCORE_COLUMNS = ("mse", "mae", "pinball", "coverage", "windows")


@click.group()
def forecast() -> None:
    """Forecast time series.

    The input is a table .csv, .csv.gz, .tsv or .parquet: long, with a row for each series and
    time, or wide, with a column for each series, named by --target-col.
    """


@forecast.command("fit")
@click.argument("data", type=DATA)
@option_group("settings", FitSettings, *SETTING_OPTIONS)
@option_group("columns", ForecastColumns, *COLUMN_OPTIONS)
@OVERRIDES
@SPLIT_OPTION
@MODEL_OUT
@FORCE
@RESUME
@shared
@click.pass_context
def forecast_fit(
    ctx: click.Context,
    data: Path,
    settings: FitSettings,
    columns: ForecastColumns,
    overrides: tuple[str, ...],
    split: str | None,
    model: Path,
    force: bool,
    resume: bool,
) -> None:
    """Train a forecaster on a table and write it to a model folder.

    With --split, the test part is left out of the training, and `evaluate` scores it. After
    Ctrl-C or a kill, the same command with --resume continues the training.

    \b
    Example:
      titans-seq forecast fit sales.csv --horizon 24 --future price --model shop
    """
    check_model_out(model, force=force)
    from titans_seq.bundles import CONFIG, add_metrics
    from titans_seq.evaluation import Split
    from titans_seq.evaluation.forecasts.series import rows_before_test
    from titans_seq.files import write_whole_folder
    from titans_seq.forecasting import TitansForecaster, read_frame

    parsed_split = None if split is None else Split.parse(split)
    values = {**asdict(settings), **asdict(columns)}
    if len(columns.target_col) == 1:
        values["target_col"] = columns.target_col[0]
    forecaster = build(TitansForecaster, values, overrides)
    frame, val_size = read_frame(data), None
    if parsed_split is not None:
        frame, val_size = rows_before_test(
            frame, parsed_split, time_col=columns.time_col, id_col=columns.id_col, source=str(data)
        )
    with checkpointed(model, forecaster.get_params(), [data], resume=resume, force=force):
        with progress(ctx):
            forecaster.fit(frame, val_size=val_size)
        with write_whole_folder(model, force=force, marker=CONFIG) as folder:
            forecaster.save(folder)
            if parsed_split is not None:
                add_metrics(folder, {"split": str(parsed_split)})  # for `evaluate`
    size = f"{len(forecaster.scale_mean_)} series, {len(frame)} rows"
    report_training(model, size, forecaster.history_.to_table())


@forecast.command("predict")
@click.argument("data", type=DATA)
@MODEL_IN
@FUTURE_DATA_OPTION
@QUANTILES_OPTION
@levels_option()
@click.option(
    "--out",
    type=OutFile(*TABLE_SUFFIXES),
    default="-",
    help="Table .csv, .tsv, .jsonl or .parquet; by default CSV on standard output.",
)
@shared
def forecast_predict(
    data: Path,
    model: Path,
    future_data: Path | None,
    quantiles: tuple[float, ...] | None,
    levels: tuple[float, ...] | None,
    out: Path,
) -> None:
    """Forecast the rows that follow those of DATA.

    Writes a row for each series and time: the mean, and the quantiles of the model, or those
    of --quantiles, or the intervals of --levels.

    \b
    Example:
      titans-seq forecast predict sales.csv --model shop --future-data plan.csv
    """
    from titans_seq.forecasting import TitansForecaster, read_frame

    forecaster = TitansForecaster.load(model)
    future = None if future_data is None else read_frame(future_data)
    predictions = forecaster.predict(read_frame(data), future, quantiles=quantiles, levels=levels)
    write_table(predictions, out)


@forecast.command("evaluate")
@click.argument("data", type=DATA)
@MODEL_IN
@SPLIT_OPTION
@click.option(
    "--stride",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Rows between the starts of windows; the usual protocol scores every window.",
)
@SCORES_OUT
def forecast_evaluate(
    data: Path, model: Path, split: str | None, stride: int, out: Path | None
) -> None:
    """Score every window of the test part, beside simple forecasts.

    DATA holds all rows, including the training part, which sets the scale of the errors.
    Without --split, the split of `fit` is used.

    \b
    Example:
      titans-seq forecast evaluate ETTh1.csv --model etth1 --split 8640,2880,2880
    """
    from titans_seq.evaluation import Split, score_forecast_controls, score_forecaster
    from titans_seq.evaluation.forecasts.series import checked_times
    from titans_seq.forecasting import TitansForecaster, read_frame

    forecaster = TitansForecaster.load(model)
    parsed_split = Split.parse(split or _load_split(model))
    roles = {name: getattr(forecaster, name) for name in ("id_col", "time_col", "target_col")}
    frame = read_frame(data)
    if forecaster.time_col is not None:
        frame[forecaster.time_col] = checked_times(
            frame, time_col=forecaster.time_col, id_col=forecaster.id_col, source=str(data)
        )
    scores = {"titans-seq": score_forecaster(forecaster, frame, parsed_split, stride=stride)}
    scores |= score_forecast_controls(
        frame,
        parsed_split,
        horizon=forecaster.horizon,
        look_back=forecaster.network_.config.context_length,
        future=forecaster.future,
        stride=stride,
        **roles,
    )
    title = (
        f"{data}, {forecaster.horizon} rows ahead, test part of {parsed_split}, "
        "scaled by train rows"
    )
    show_scores(title, scores, _SCORE_COLUMNS, out)


forecast.add_command(forecast_backtest)
forecast.add_command(forecast_plot)
forecast.add_command(forecast_stream)


def _load_split(model: Path) -> str:
    """Return the split of `fit`."""
    from titans_seq.bundles import METRICS

    split = json.loads((model / METRICS).read_text("utf-8")).get("split")
    if split is None:
        raise click.UsageError(
            f"{model} was fitted without --split, so evaluate needs --split TRAIN,VAL,TEST"
        )
    return str(split)
