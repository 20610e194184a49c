"""Errors as one line on standard error, and as exit codes."""

from __future__ import annotations

import traceback

import click

from titans_seq.exceptions import MissingExtraError, TitansSeqError

_EXIT_INTERRUPTED = 130

_EXTRAS = {"Bio": "dna", "pytorch_forecasting": "forecasting"}
"""Extra that installs a package; all other packages come with each of them."""


def exit_code_of(error: BaseException) -> int:
    """Return the exit code of an error."""
    if isinstance(error, KeyboardInterrupt):
        return _EXIT_INTERRUPTED
    own = _as_titans_error(error)
    return own.exit_code if own else 1


def report_error(error: BaseException, *, verbose: bool) -> None:
    """Print an error as one line on standard error; ``verbose`` adds the traceback."""
    if verbose:
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    if isinstance(error, KeyboardInterrupt):
        cause = f": {error}" if str(error) else ""
        click.echo(f"Interrupted{cause}", err=True)
    else:
        click.echo(f"Error: {' '.join(_message(error).split())}", err=True)


def _as_titans_error(error: BaseException) -> TitansSeqError | None:
    """Return an error of this package, or a missing module as one; None for others."""
    if isinstance(error, TitansSeqError):
        return error
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        if package != "titans_seq":
            return MissingExtraError(package, extra=_EXTRAS.get(package, "all"))
    return None


def _message(error: BaseException) -> str:
    own = _as_titans_error(error)
    if own is not None:
        return str(own)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error} (titans-seq -v shows the traceback)"
