"""The command ``titans-seq``: its groups, its two switches, and how it fails."""

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

from .errors import exit_code_of, report
from .lazy import LazyGroup
from .processes import speaks

HERE = Path(__file__).parent
LIBRARY = Path(str(titans_seq.__file__)).parent

LEVELS = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}


class Root(LazyGroup):
    """The outermost group: every error ends here, as one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; say in one line what went wrong, and with ``-v`` where."""
        try:
            with warnings.catch_warnings(), _log_restored(), _terminable():
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except click.ClickException as error:
            if speaks():
                raise
            ctx.exit(error.exit_code)
        except (click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except (Exception, KeyboardInterrupt) as error:
            report(error, verbose=verbosity(ctx) > 0)
            ctx.exit(exit_code_of(error))


@contextmanager
def _log_restored() -> Iterator[None]:
    """Leave the log as it was, for whoever called us from a program of their own."""
    logger = logging.getLogger("titans_seq")
    before = logger.handlers, logger.level
    try:
        yield
    finally:
        logger.handlers, level = before
        logger.setLevel(level)


@contextmanager
def _terminable() -> Iterator[None]:
    """Take SIGTERM for Ctrl-C, so that nothing is left half-written and the exit code is 130."""
    before = signal.getsignal(signal.SIGTERM)
    theirs = before is not signal.SIG_DFL  # whoever called us has plans of their own
    if theirs or threading.current_thread() is not threading.main_thread():
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
        "demo": (".demo:demo", "Train and score both heads on the embedded data."),
        "forecast": (".forecast:forecast", "Forecast time series: fit, predict, backtest, plot."),
        "dna": (".dna:dna", "Classify DNA: fit, predict, evaluate, pretrain, explain."),
        "dataset": (".dataset:dataset", "Data sets: list, show, fetch, verify."),
        "recipe": (".recipe:recipe", "Benchmark runs: list, show, copy, run, compare."),
        "doctor": (".doctor:doctor", "Show versions, devices, the data folder, and what works."),
    },
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="titans-seq", prog_name="titans-seq")
@click.option("-v", "--verbose", is_flag=True, help="Say more; show where an error happened.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but results and errors.")
@click.pass_context
def main(ctx: click.Context, verbose: bool, quiet: bool) -> None:
    """Read sequences longer than a model's window, with a memory that learns while it reads.

    Results go to standard output, all else to standard error. Exit codes: 0 done, 1 failed,
    2 usage, 3 bad configuration or model folder, 4 bad data, 5 a missing package, device or
    data set, 6 training diverged, 130 interrupted.
    """
    if verbose and quiet:
        raise click.UsageError("-v and -q exclude each other")
    ctx.meta["verbosity"] = int(verbose) - int(quiet)
    # Before torch is loaded: idle threads that spin take twice the time on a shared machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if quiet:
        warnings.simplefilter("ignore")
    logger = logging.getLogger("titans_seq")
    logger.handlers = [_ToStandardError()]
    logger.setLevel(LEVELS[verbosity(ctx)])


class _ToStandardError(logging.Handler):
    """Says each record of the log as a line on standard error."""

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
    """Show a warning of ours as one line; those of other packages concern their developers."""
    if Path(filename).is_relative_to(LIBRARY) or Path(filename).is_relative_to(HERE):
        click.echo(f"Warning: {' '.join(str(message).split())}", err=True)
