"""``titans-seq forecast stream``: forecasts and surprise for rows as lines of JSON."""

from __future__ import annotations

import json
import math
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from titans_seq.exceptions import DataError

from .options import DATA, MODEL_IN, OutFile

if TYPE_CHECKING:
    import pandas as pd

    from titans_seq.forecasting import TitansForecaster
    from titans_seq.forecasting.stream import ForecastStream

_SOURCE = "standard input"
_FUTURE_FIELD = "future"
"""Field of a line with the covariates known ahead of the next rows."""


@click.command("stream")
@MODEL_IN
@click.option(
    "--state",
    type=OutFile(".state"),
    help="File NAME.state: loaded at the start if it exists, saved at the end.",
)
@click.option("--history", type=DATA, help="Table of earlier rows to start from.")
@click.option(
    "--adapt",
    is_flag=True,
    help="Also adapt the weights of the memories' experts; a state keeps the choice of its start.",
)
def forecast_stream(model: Path, state: Path | None, history: Path | None, adapt: bool) -> None:
    """Update a model with rows as they arrive, and forecast after each.

    Each line of standard input is a JSON object: the id, the time, the value (null if missing)
    and the covariates, named as in the training table. If the model has covariates known ahead,
    the field "future" lists an object for each of the next rows. Standard output has a line for
    each: the row, its surprise and p-value, and the means and quantiles of the next rows.

    The state is saved at the end of the input, on SIGTERM, on Ctrl-C and before an error ends
    the stream: the same command continues from there.

    \b
    Example:
      titans-seq forecast stream --model shop --state shop.state < rows.jsonl
    """
    from titans_seq.forecasting import TitansForecaster, read_frame

    forecaster = TitansForecaster.load(model)
    if adapt:
        forecaster.set_params(adapt=True)
    stream = None
    if state is not None and state.exists():
        if history is not None:
            raise click.UsageError(
                f"--state {state} exists, so it cannot start from --history: leave out --history, "
                "or name a new file"
            )
        stream = forecaster.load_stream(state)
    elif history is not None:
        stream = forecaster.stream(read_frame(history))
    session = _Session(forecaster, stream)
    try:
        with _Lines() as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    click.echo(json.dumps(session.learn(number, line), allow_nan=False))
    finally:
        if state is not None and session.stream is not None:
            session.stream.save(state)


class _Session:
    """A forecaster and its stream, which starts at the first row if there is no history."""

    def __init__(self, forecaster: TitansForecaster, stream: ForecastStream | None) -> None:
        self.forecaster, self.stream = forecaster, stream

    def learn(self, number: int, line: str) -> dict[str, Any]:
        """Update the stream with a line; return the output for it."""
        row, future = self._parse(number, line)
        self._update(row, number)
        assert self.stream is not None
        surprise = self.stream.surprise.iloc[-1]
        fields = json.loads(line)
        fields.pop(_FUTURE_FIELD, None)
        output = {
            **fields,
            "surprise": _finite(surprise["surprise"]),
            "p_value": _finite(surprise["p_value"]),
        }
        forecast = self.stream.forecast(future, ids=[surprise.iloc[0]])
        for name in forecast.columns[2:]:  # after the id and the time
            output[name] = [_finite(value) for value in forecast[name]]
        return output

    def _update(self, row: pd.DataFrame, number: int) -> None:
        """Update the stream with a row, which may be the first of a series known from training."""
        column = self.forecaster.id_col
        known = self.forecaster.scale_mean_
        name = row[column].iloc[0] if column in row.columns else next(iter(known))
        if self.stream is not None and name in self.stream.ids:
            self.stream.update(row)
            return
        if name not in known:
            raise DataError(
                f"{_SOURCE}, line {number}: field {column!r}: series {name!r} was not in the "
                "training data; give its earlier rows by --history"
            )
        if self.stream is None:
            self.stream = self.forecaster.stream(row)
        else:
            self.stream.add(row)

    def _parse(self, number: int, line: str) -> tuple[pd.DataFrame, pd.DataFrame | None]:
        """Return the row of a line, and the covariates of the next rows."""
        import pandas as pd

        where = f"{_SOURCE}, line {number}"
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise DataError(f"{where}: not valid JSON: {error}") from error
        if not isinstance(fields, dict):
            raise DataError(f"{where}: must be an object with the fields of one row")
        required = [*self._targets(), *self.forecaster.past, *self.forecaster.future]
        if self.forecaster.time_col is not None:
            required.insert(0, self.forecaster.time_col)
        for name in required:
            if name not in fields:
                raise DataError(f"{where}: field {name!r} is missing; it has {', '.join(fields)}")
            if isinstance(fields[name], dict | list):
                raise DataError(
                    f"{where}: field {name!r} must be a single value, got {fields[name]!r}"
                )
        # A column of the table may itself be called "future".
        next_rows = fields.pop(_FUTURE_FIELD, None) if _FUTURE_FIELD not in required else None
        row = pd.DataFrame([fields])
        row.attrs |= {"source": _SOURCE, "first_line": number}
        if not self.forecaster.future:
            return row, None
        if not isinstance(next_rows, list) or not all(isinstance(r, dict) for r in next_rows):
            raise DataError(
                f"{where}: field {_FUTURE_FIELD!r} must be a list of objects, the covariates known "
                "ahead of each of the next rows"
            )
        future = pd.DataFrame(next_rows)
        future.attrs |= {"source": f"{where}, field {_FUTURE_FIELD!r}"}
        return row, future

    def _targets(self) -> list[str]:
        target = self.forecaster.target_col
        return [target] if isinstance(target, str) else list(target)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


class _Terminated(Exception):  # noqa: N818 (it is no error)
    """SIGTERM arrived while the process was waiting for a line."""


class _Lines:
    """Context that yields the lines of standard input until SIGTERM.

    A line that is being processed is finished first. The signal handler is restored at the end.
    """

    def __init__(self) -> None:
        self.waiting = self.ended = False

    def __enter__(self) -> Iterator[str]:
        self.before = signal.signal(signal.SIGTERM, self._end)
        return self._lines()

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self.before)

    def _end(self, _signal: int, _frame: FrameType | None) -> None:
        self.ended = True
        if self.waiting:
            raise _Terminated

    def _lines(self) -> Iterator[str]:
        while not self.ended:
            try:
                self.waiting = True
                line = sys.stdin.readline()
            except _Terminated:
                return
            finally:
                self.waiting = False
            if not line:
                return
            yield line
