"""Options of the `titans-seq forecast` commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from .options import DATA, Function, NameList, NumberList, RowsOrNone, concatenate
from .training import RANDOM_STATE, variant_option


def _columns_option(name: str, text: str, default: tuple[str, ...] = ()) -> Any:
    """Return an option for names of columns, separated by commas or repeated."""
    return click.option(
        f"--{name}",
        type=NameList(),
        multiple=True,
        callback=concatenate,
        default=(default,) if default else (),
        help=text,
    )


SPLIT_OPTION = click.option(
    "--split",
    metavar="TRAIN,VAL,TEST",
    help="Parts of each series in time order, as rows (8640,2880,2880) or shares (0.7,0.1,0.2).",
)


FUTURE_DATA_OPTION = click.option(
    "--future-data", type=DATA, help="Table of the columns known ahead, for the rows to forecast."
)
QUANTILES_OPTION = click.option(
    "--quantiles", type=NumberList(), help="Quantile levels between 0 and 1, separated by commas."
)


def levels_option(default: str | None = None) -> Callable[[Function], Function]:
    """Return the option for prediction intervals."""
    return click.option(
        "--levels",
        type=NumberList(),
        default=default,
        show_default=default is not None,
        help="Coverage of prediction intervals in percent, such as 80,95.",
    )


@dataclass(frozen=True)
class ForecastColumns:
    """Roles of the columns of the table."""

    id_col: str
    time_col: str
    target_col: tuple[str, ...]
    static: tuple[str, ...]
    past: tuple[str, ...]
    future: tuple[str, ...]


COLUMN_OPTIONS = (
    click.option(
        "--id-col",
        default="unique_id",
        show_default=True,
        help="Column of the names of series; a table of one series needs none.",
    ),
    click.option("--time-col", default="ds", show_default=True, help="Column of the times."),
    _columns_option(
        "target-col", "Column to forecast [y]; with several, each is a series.", default=("y",)
    ),
    _columns_option("static", "Covariates that are constant within a series."),
    _columns_option("past", "Covariates known up to the present only."),
    _columns_option("future", "Covariates known ahead."),
)


@dataclass(frozen=True)
class FitSettings:
    """Parameters of the forecaster that have an option."""

    horizon: int
    context_length: int | None
    variant: str
    quantiles: tuple[float, ...]
    max_epochs: int
    random_state: int
    device: str


SETTING_OPTIONS = (
    click.option("--horizon", type=click.IntRange(min=1), required=True, help="Rows to forecast."),
    click.option(
        "--context-length",
        type=RowsOrNone(),
        default=168,
        show_default=True,
        help="Rows of the look-back window; none reads all rows, as `stream` does.",
    ),
    variant_option("mac"),
    click.option(
        "--quantiles",
        type=NumberList(),
        default="0.1,0.5,0.9",
        show_default=True,
        help="Quantile levels between 0 and 1, in increasing order.",
    ),
    click.option(
        "--max-epochs",
        type=click.IntRange(min=1),
        default=20,
        show_default=True,
        help="Maximum number of passes over the training windows.",
    ),
    *RANDOM_STATE,
)
