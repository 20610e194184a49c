"""`titans-seq forecast backtest` and `plot`: how a forecaster does, and how it looks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .forecast_options import FUTURE_DATA, levels
from .options import DATA, MODEL_IN, SCORES_OUT, OutFile, Words, joined
from .tables import WRITERS, show_scores, write_table
from .training import progress

if TYPE_CHECKING:
    import pandas as pd

    from titans_seq.forecasting.scores.backtest import Backtest

PICTURES = (".png", ".svg", ".pdf")
REFIT: dict[str, bool | str] = {"never": False, "once": "once", "always": True}
SERIES = click.option(
    "--series",
    type=Words(),
    multiple=True,
    callback=joined,
    help="Series to draw; by default the first six.",
)


@click.command()
@click.argument("data", type=DATA)
@MODEL_IN
@click.option(
    "--windows",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Forecasts of each series; the last one ends with it.",
)
@click.option(
    "--step",
    type=click.IntRange(min=1),
    help="Rows from one forecast to the next; by default the horizon.",
)
@levels("80,95")
@click.option(
    "--season",
    type=click.IntRange(min=1),
    help="Rows that the naive forecast repeats; by default those of a day of hours, a week of "
    "days, a year of months.",
)
@click.option(
    "--refit",
    type=click.Choice(list(REFIT)),
    default="never",
    show_default=True,
    help="Train anew, on the rows before the first forecast, or before each.",
)
@click.option(
    "--by",
    type=click.Choice(["series", "horizon", "cutoff"]),
    help="A line for each series, step ahead or origin.",
)
@click.option("--forecasts", type=OutFile(*WRITERS), help="Write every forecast to a table.")
@click.option("--plot", "picture", type=OutFile(*PICTURES), help="Draw the forecasts.")
@SCORES_OUT
@click.pass_context
def backtest(
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

    Scores are in units of the target. A model that was trained on rows it now forecasts looks
    better than it is, and says so: --refit once trains on the rows before the first forecast.

    \b
    Example:
      titans-seq forecast backtest sales.csv --model shop --windows 8 --refit once
    """
    from titans_seq.forecasting import TitansForecaster, read_frame

    forecaster = TitansForecaster.load(model)
    with progress(ctx):
        found = forecaster.backtest(
            read_frame(data), windows=windows, step=step, levels=levels, season=season,
            refit=REFIT[refit],
        )  # fmt: skip
    if forecasts is not None:
        write_table(found.forecasts, forecasts, plain=".csv")
    if picture is not None:
        found.plot(picture)
    title = (
        f"{data}, {forecaster.horizon} rows ahead, {found.windows} windows, "
        f"seasonal naive repeats {found.season} rows"
    )
    scores = _table(found, by)
    names = {f"{' '.join(map(str, key))}".strip(): row for key, row in scores}
    show_scores(title, names, list(found.summary().columns), out)


@click.command()
@click.argument("data", type=DATA)
@MODEL_IN
@FUTURE_DATA
@levels("50,80,95")
@SERIES
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    help="Rows of the history to show; by default four times the horizon.",
)
@click.option("--out", type=OutFile(*PICTURES), required=True, help="Picture .png, .svg or .pdf.")
def plot(
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
    ahead = None if future_data is None else read_frame(future_data)
    forecaster.plot(
        read_frame(data), ahead, path=out, levels=levels, series=series or None, rows=rows
    )


def _table(found: Backtest, by: str | None) -> list[tuple[tuple[object, ...], dict[str, float]]]:
    """Return the scores with what each is about."""
    tables = {
        None: found.summary, "series": found.by_series, "horizon": found.by_horizon,
        "cutoff": found.by_cutoff,
    }  # fmt: skip
    table: pd.DataFrame = tables[by]()
    return [
        (key if isinstance(key, tuple) else (key,), row.to_dict()) for key, row in table.iterrows()
    ]
