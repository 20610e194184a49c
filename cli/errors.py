"""What the user reads when something goes wrong: one line, and an exit code."""

from __future__ import annotations

import traceback

import click

from titans_seq.exceptions import MissingExtraError, TitansSeqError

INTERRUPTED = 130

EXTRAS = {"Bio": "dna", "pytorch_forecasting": "forecasting"}
"""Extra that brings a package; all others come with either head."""


def exit_code_of(error: BaseException) -> int:
    """Return the exit code that an error stands for."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    known = _known(error)
    return known.exit_code if known else 1


def report(error: BaseException, *, verbose: bool) -> None:
    """Say on standard error what went wrong, in one line; ``verbose`` adds where."""
    if verbose:
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    if isinstance(error, KeyboardInterrupt):
        cause = f": {error}" if str(error) else ""
        click.echo(f"Interrupted{cause}", err=True)
    else:
        click.echo(f"Error: {' '.join(_words(error).split())}", err=True)


def _known(error: BaseException) -> TitansSeqError | None:
    """Return the error as one of ours, if it can be said so."""
    if isinstance(error, TitansSeqError):
        return error
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        if package != "titans_seq":
            return MissingExtraError(package, extra=EXTRAS.get(package, "all"))
    return None


def _words(error: BaseException) -> str:
    known = _known(error)
    if known is not None:
        return str(known)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error} (titans-seq -v shows where)"
