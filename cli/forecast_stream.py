"""``titans-seq forecast stream``: rows as lines of JSON in, forecasts and surprise out."""

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

SOURCE = "standard input"
AHEAD = "future"
"""Field of a line that holds the rows known ahead."""


@click.command()
@MODEL_IN
@click.option(
    "--state",
    type=OutFile(".state"),
    help="File NAME.state to go on from, if it is there, and to save to at the end.",
)
@click.option("--history", type=DATA, help="Table of earlier rows to begin with.")
@click.option(
    "--adapt",
    is_flag=True,
    help="Let the trust in the memories' experts move, too; a state goes on as it began.",
)
def stream(model: Path, state: Path | None, history: Path | None, adapt: bool) -> None:
    """Learn from rows as they come, and forecast after each.

    Standard input has a JSON object a line: the id, the time, the value (null if missing) and
    the covariates, named as in the training table. Where the model has columns known ahead, the
    field "future" holds an object for each of the next rows. Standard output has a line for each:
    the row, its surprise and p-value, the expected values of the next rows, and their quantiles.

    The state is saved at the end of the input, on SIGTERM, on Ctrl-C and before an error ends the
    stream: the same command goes on from there.

    \b
    Example:
      titans-seq forecast stream --model shop --state shop.state < rows.jsonl
    """
    from titans_seq.forecasting import TitansForecaster, read_frame

    forecaster = TitansForecaster.load(model)
    if adapt:
        forecaster.set_params(adapt=True)
    running = None
    if state is not None and state.exists():
        if history is not None:
            raise click.UsageError(f"{state} is there already: leave out --history, or the state")
        running = forecaster.load_stream(state)
    elif history is not None:
        running = forecaster.stream(read_frame(history))
    session = _Session(forecaster, running)
    try:
        with _Lines() as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    click.echo(json.dumps(session.learn(number, line), allow_nan=False))
    finally:
        if state is not None and session.stream is not None:
            session.stream.save(state)


class _Session:
    """A stream that begins with its first row, if it had no history."""

    def __init__(self, forecaster: TitansForecaster, stream: ForecastStream | None) -> None:
        self.forecaster, self.stream = forecaster, stream

    def learn(self, number: int, line: str) -> dict[str, Any]:
        """Learn a line; return what is to be said after it."""
        row, ahead = self._parse(number, line)
        self._read(row, number)
        assert self.stream is not None
        learnt = self.stream.surprise.iloc[-1]
        given = json.loads(line)
        given.pop(AHEAD, None)
        answer = {
            **given,
            "surprise": _number(learnt["surprise"]),
            "p_value": _number(learnt["p_value"]),
        }
        forecast = self._forecast(learnt.iloc[0], ahead)
        for name in forecast.columns[2:]:
            answer[name] = [_number(value) for value in forecast[name]]
        return answer

    def _read(self, row: pd.DataFrame, number: int) -> None:
        """Learn a row; one of a series that was trained on may be its first."""
        column = self.forecaster.id_col
        known = self.forecaster.scale_mean_
        name = row[column].iloc[0] if column in row.columns else next(iter(known))
        if self.stream is not None and name in self.stream.ids:
            self.stream.update(row)
            return
        if name not in known:
            raise DataError(
                f"{SOURCE}, line {number}: field {column!r}: series {name!r} was not trained on; "
                "give its earlier rows by --history"
            )
        if self.stream is None:
            self.stream = self.forecaster.stream(row)
        else:
            self.stream.add(row)

    def _forecast(self, name: Any, ahead: pd.DataFrame | None) -> pd.DataFrame:
        """Return the forecast of one series."""
        assert self.stream is not None
        return self.stream.forecast(ahead, ids=[name])

    def _parse(self, number: int, line: str) -> tuple[pd.DataFrame, pd.DataFrame | None]:
        """Return the row of a line, and the rows known ahead."""
        import pandas as pd

        place = f"{SOURCE}, line {number}"
        try:
            given = json.loads(line)
        except ValueError as error:
            raise DataError(f"{place}: no JSON: {error}") from error
        if not isinstance(given, dict):
            raise DataError(f"{place}: must hold an object with the fields of one row")
        wanted = [*self._targets(), *self.forecaster.past, *self.forecaster.future]
        if self.forecaster.time_col is not None:
            wanted.insert(0, self.forecaster.time_col)
        for name in wanted:
            if name not in given:
                raise DataError(f"{place}: field {name!r} is missing; it has {', '.join(given)}")
            if isinstance(given[name], dict | list):
                raise DataError(f"{place}: field {name!r} must hold one value")
        ahead = given.pop(AHEAD, None) if AHEAD not in wanted else None
        row = pd.DataFrame([given])
        row.attrs |= {"source": SOURCE, "first_line": number}
        if not self.forecaster.future:
            return row, None
        if not isinstance(ahead, list) or not all(isinstance(one, dict) for one in ahead):
            raise DataError(f"{place}: field {AHEAD!r} must list the next rows' known columns")
        later = pd.DataFrame(ahead)
        later.attrs |= {"source": f"{place}, field {AHEAD!r}"}
        return row, later

    def _targets(self) -> list[str]:
        given = self.forecaster.target_col
        return [given] if isinstance(given, str) else list(given)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


class _Terminated(Exception):  # noqa: N818 (it is no error)
    """SIGTERM came while a line was waited for."""


class _Lines:
    """The lines of standard input, until SIGTERM; what has begun with a line is brought to an end.

    Used as a context: the signal is handled as before once it is left.
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
