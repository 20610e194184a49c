"""Commands that can run in several processes: options, and output by one process only."""

from __future__ import annotations

import functools
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import click

from .errors import exit_code_of
from .options import DATA_OR_STDIN, Function

_PROCESS_OPTIONS = (
    click.option(
        "--devices",
        type=click.IntRange(min=1),
        help="Number of processes on this machine, one per GPU if there are any; under torchrun, "
        "as many as it started.",
    ),
    click.option(
        "--nodes",
        type=click.IntRange(min=1),
        help="Number of machines; more than one need torchrun on each.",
    ),
    click.option(
        "--strategy",
        type=click.Choice(["auto", "ddp", "fsdp"]),
        default="auto",
        show_default=True,
        help="Whether each process holds the whole network (ddp) or a shard of it (fsdp).",
    ),
)


def shared(function: Function) -> Function:
    """Run a command in several processes; only the first prints results."""

    @functools.wraps(function)
    def run(
        *args: Any, devices: int | None, nodes: int | None, strategy: str, **options: Any
    ) -> Any:
        launched = int(os.environ.get("WORLD_SIZE", 1)) > 1
        if not launched and (devices or 1) * (nodes or 1) == 1:
            return function(*args, **options)
        context = click.get_current_context()
        _refuse_standard_input(context, options)
        from titans_seq.training import distributed

        with distributed(devices=devices, nodes=nodes, strategy=strategy), _one_output(context):
            return function(*args, **options)

    decorated: Any = run
    for option in reversed(_PROCESS_OPTIONS):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


def reports_usage_errors() -> bool:
    """Return whether this process is the one of its machine that prints usage errors."""
    return int(os.environ.get("LOCAL_RANK") or 0) == 0 or "WORLD_SIZE" not in os.environ


def _refuse_standard_input(context: click.Context, options: Mapping[str, Any]) -> None:
    """Refuse standard input, which only one process could read."""
    for parameter in context.command.params:
        if parameter.type is DATA_OR_STDIN and options.get(str(parameter.name)) == Path("-"):
            raise click.UsageError(
                "several processes cannot read standard input: give a file instead of -"
            )


@contextmanager
def _one_output(context: click.Context) -> Iterator[None]:
    """Print results of rank 0 only, and the error of the process that fails first only."""
    from titans_seq.training import first_to_fail, is_first

    with open(os.devnull, "w") as nowhere, warnings.catch_warnings():  # noqa: PTH123
        if not is_first():
            warnings.simplefilter("ignore")
            logging.getLogger("titans_seq").setLevel(logging.ERROR)
        try:
            with redirect_stdout(sys.stdout if is_first() else nowhere):
                yield
        except (click.exceptions.Exit, click.Abort):
            raise
        except click.ClickException as error:
            if first_to_fail():
                error.show()
            context.exit(error.exit_code)
        except (Exception, KeyboardInterrupt) as error:
            if first_to_fail():
                raise
            context.exit(exit_code_of(error))
