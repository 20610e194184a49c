"""What `titans-seq forecast fit` can be told about a table and a forecaster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from .options import DATA, Function, Numbers, RowsOrNone, Words, joined
from .training import RANDOM_STATE, variant_option


def _columns(name: str, text: str, default: tuple[str, ...] = ()) -> Any:
    """Return an option that takes names of columns, parted by commas or repeated."""
    return click.option(
        f"--{name}",
        type=Words(),
        multiple=True,
        callback=joined,
        default=(default,) if default else (),
        help=text,
    )


SPLIT = click.option(
    "--split",
    metavar="TRAIN,VAL,TEST",
    help="Parts of each series in time order, as rows (8640,2880,2880) or shares (0.7,0.1,0.2).",
)


FUTURE_DATA = click.option(
    "--future-data", type=DATA, help="Table of the columns known ahead, at the times to come."
)
QUANTILES = click.option("--quantiles", type=Numbers(), help="Any numbers between 0 and 1.")


def levels(default: str | None = None) -> Callable[[Function], Function]:
    """Return the option for intervals."""
    return click.option(
        "--levels",
        type=Numbers(),
        default=default,
        show_default=default is not None,
        help="Intervals in percent, such as 80,95.",
    )


@dataclass(frozen=True)
class Columns:
    """What the columns of the table mean."""

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
        help="Column of the series' names; a table of one series needs none.",
    ),
    click.option("--time-col", default="ds", show_default=True, help="Column of the times."),
    _columns("target-col", "Column to forecast [y]; several are a series each.", default=("y",)),
    _columns("static", "Columns that are constant within a series."),
    _columns("past", "Columns known only afterwards."),
    _columns("future", "Columns known ahead."),
)


@dataclass(frozen=True)
class Settings:
    """Settings of the forecaster, as the command takes them."""

    horizon: int
    context_length: int | None
    variant: str
    quantiles: tuple[float, ...]
    max_epochs: int
    random_state: int
    device: str


SETTINGS = (
    click.option("--horizon", type=click.IntRange(min=1), required=True, help="Rows to forecast."),
    click.option(
        "--context-length",
        type=RowsOrNone(),
        default=168,
        show_default=True,
        help="Rows to look back; none remembers all of them, as `stream` does.",
    ),
    variant_option("mac"),
    click.option(
        "--quantiles",
        type=Numbers(),
        default="0.1,0.5,0.9",
        show_default=True,
        help="Rising levels between 0 and 1.",
    ),
    click.option(
        "--max-epochs",
        type=click.IntRange(min=1),
        default=20,
        show_default=True,
        help="Passes over the training windows, at most.",
    ),
    *RANDOM_STATE,
)
