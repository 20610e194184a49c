"""The command ``titans-seq``: groups, verbosity, logging, warnings and errors."""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import click

import titans_seq

from .errors import exit_code_of, report_error
from .lazy import LazyGroup
from .processes import reports_usage_errors

_OWN_FOLDERS = (Path(__file__).parent, Path(str(titans_seq.__file__)).parent)

_LOG_LEVELS = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}


class Root(LazyGroup):
    """The outermost group, which turns every error into one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; print an error as one line, and with ``-v`` its traceback."""
        try:
            with warnings.catch_warnings(), _log_restored(), _terminable():
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except click.ClickException as error:
            if reports_usage_errors():
                raise
            ctx.exit(error.exit_code)
        except (click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except (Exception, KeyboardInterrupt) as error:
            report_error(error, verbose=verbosity(ctx) > 0)
            ctx.exit(exit_code_of(error))


@contextmanager
def _log_restored() -> Iterator[None]:
    """Restore the logger afterwards, for programs that call the command in their process."""
    logger = logging.getLogger("titans_seq")
    before = logger.handlers, logger.level
    try:
        yield
    finally:
        logger.handlers, level = before
        logger.setLevel(level)


@contextmanager
def _terminable() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C: temporary files are removed and the exit code is 130."""
    before = signal.getsignal(signal.SIGTERM)
    has_handler = before is not signal.SIG_DFL  # of a program that calls the command
    if has_handler or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def verbosity(ctx: click.Context) -> int:
    """Return -1 after ``-q``, 1 after ``-v``, else 0."""
    return int(ctx.find_root().meta.get("verbosity", 0))


@click.group(
    cls=Root,
    lazy={
        "demo": (".demo:demo", "Train and score a forecaster and a classifier on embedded data."),
        "forecast": (".forecast:forecast", "Forecast time series: fit, predict, backtest, plot."),
        "dna": (".dna:dna", "Classify DNA: fit, predict, evaluate, pretrain, explain."),
        "dataset": (".dataset:dataset", "Data sets: list, show, fetch, verify."),
        "recipe": (".recipe:recipe", "Benchmark runs: list, show, copy, run, compare."),
        "doctor": (".doctor:doctor", "Show versions, devices, the data folder, and what works."),
    },
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="titans-seq", prog_name="titans-seq")
@click.option("-v", "--verbose", is_flag=True, help="Log more; show the traceback of an error.")
@click.option("-q", "--quiet", is_flag=True, help="Print results and errors only.")
@click.pass_context
def main(ctx: click.Context, verbose: bool, quiet: bool) -> None:
    """Forecast time series and classify DNA with a memory that learns while it reads.

    Results go to standard output, messages to standard error. Exit codes: 0 success, 1 failure,
    2 usage error, 3 bad configuration or model folder, 4 bad data, 5 missing package, device or
    data set, 6 training diverged, 130 interrupted.
    """
    if verbose and quiet:
        raise click.UsageError("-v and -q exclude each other: give one of them")
    ctx.meta["verbosity"] = int(verbose) - int(quiet)
    # Before torch is loaded: idle OpenMP threads that spin double the time on a shared machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if quiet:
        warnings.simplefilter("ignore")
    logger = logging.getLogger("titans_seq")
    logger.handlers = [_StandardErrorHandler()]
    logger.setLevel(_LOG_LEVELS[verbosity(ctx)])


class _StandardErrorHandler(logging.Handler):
    """Prints each log record as a line on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(record.getMessage(), err=True)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print warnings of this package as one line; ignore those of other packages."""
    if any(Path(filename).is_relative_to(folder) for folder in _OWN_FOLDERS):
        click.echo(f"Warning: {' '.join(str(message).split())}", err=True)
