"""``titans-seq forecast backtest`` and ``plot``: score and draw forecasts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .forecast_options import FUTURE_DATA_OPTION, levels_option
from .options import DATA, MODEL_IN, SCORES_OUT, NameList, OutFile, concatenate
from .tables import TABLE_SUFFIXES, show_scores, write_table
from .training import progress

if TYPE_CHECKING:
    import pandas as pd

    from titans_seq.forecasting.scores.backtest import Backtest

_PICTURES = (".png", ".svg", ".pdf")
_REFIT: dict[str, bool | str] = {"never": False, "once": "once", "always": True}
_SERIES_OPTION = click.option(
    "--series",
    type=NameList(),
    multiple=True,
    callback=concatenate,
    help="Series to draw; by default the first six.",
)


@click.command("backtest")
@click.argument("data", type=DATA)
@MODEL_IN
@click.option(
    "--windows",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Number of forecasts of each series; the last one ends with the series.",
)
@click.option(
    "--step",
    type=click.IntRange(min=1),
    help="Rows between forecast origins; by default the horizon.",
)
@levels_option("80,95")
@click.option(
    "--season",
    type=click.IntRange(min=1),
    help="Rows of the season that the naive forecast repeats; by default a day of hours, a week "
    "of days, a year of months.",
)
@click.option(
    "--refit",
    type=click.Choice(list(_REFIT)),
    default="never",
    show_default=True,
    help="Train again on the rows before the first forecast (once), or before each (always).",
)
@click.option(
    "--by",
    type=click.Choice(["series", "horizon", "cutoff"]),
    help="Show a row for each series, step ahead (horizon) or origin (cutoff).",
)
@click.option("--forecasts", type=OutFile(*TABLE_SUFFIXES), help="Write every forecast to a table.")
@click.option("--plot", "picture", type=OutFile(*_PICTURES), help="Draw the forecasts.")
@SCORES_OUT
@click.pass_context
def forecast_backtest(
    ctx: click.Context,
    data: Path,
    model: Path,
    windows: int,
    step: int | None,
    levels: tuple[float, ...],
    season: int | None,
    refit: str,
    by: str | None,
    forecasts: Path | None,
    picture: Path | None,
    out: Path | None,
) -> None:
    """Forecast the past of DATA from rolling origins, beside seasonal naive.

    Scores are in units of the target. They are too good, with a warning, if the model was
    trained on rows that it forecasts here: --refit once trains on earlier rows only.

    \b
    Example:
      titans-seq forecast backtest sales.csv --model shop --windows 8 --refit once
    """
    from titans_seq.forecasting import TitansForecaster, read_frame

    forecaster = TitansForecaster.load(model)
    with progress(ctx):
        result = forecaster.backtest(
            read_frame(data), windows=windows, step=step, levels=levels, season=season,
            refit=_REFIT[refit],
        )  # fmt: skip
    if forecasts is not None:
        write_table(result.forecasts, forecasts)
    if picture is not None:
        result.plot(picture)
    title = (
        f"{data}, {forecaster.horizon} rows ahead, {result.windows} windows, "
        f"seasonal naive repeats {result.season} rows"
    )
    scores = {" ".join(map(str, key)).strip(): row for key, row in _scores(result, by)}
    show_scores(title, scores, list(result.summary().columns), out)


@click.command("plot")
@click.argument("data", type=DATA)
@MODEL_IN
@FUTURE_DATA_OPTION
@levels_option("50,80,95")
@_SERIES_OPTION
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    help="Number of past rows to draw; by default four times the horizon.",
)
@click.option("--out", type=OutFile(*_PICTURES), required=True, help="Picture .png, .svg or .pdf.")
def forecast_plot(
    data: Path,
    model: Path,
    future_data: Path | None,
    levels: tuple[float, ...],
    series: tuple[str, ...],
    rows: int | None,
    out: Path,
) -> None:
    """Draw the last rows of DATA and the forecast of those that follow.

    \b
    Example:
      titans-seq forecast plot sales.csv --model shop --out shop.png
    """
    from titans_seq.forecasting import TitansForecaster, read_frame

    forecaster = TitansForecaster.load(model)
    future = None if future_data is None else read_frame(future_data)
    forecaster.plot(
        read_frame(data), future, path=out, levels=levels, series=series or None, rows=rows
    )


def _scores(result: Backtest, by: str | None) -> list[tuple[tuple[object, ...], dict[str, float]]]:
    """Return scores with their keys: the model, and the series, step or origin."""
    tables = {
        None: result.summary, "series": result.by_series, "horizon": result.by_horizon,
        "cutoff": result.by_cutoff,
    }  # fmt: skip
    table: pd.DataFrame = tables[by]()
    return [
        (key if isinstance(key, tuple) else (key,), row.to_dict()) for key, row in table.iterrows()
    ]
