"""Commands whose work several processes share."""

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

OPTIONS = (
    click.option(
        "--devices",
        type=click.IntRange(min=1),
        help="Processes on this machine that share the work, one a GPU if there are any; under "
        "torchrun, as many as it started.",
    ),
    click.option(
        "--nodes",
        type=click.IntRange(min=1),
        help="Machines that share the work; more than one need torchrun on each.",
    ),
    click.option(
        "--strategy",
        type=click.Choice(["auto", "ddp", "fsdp"]),
        default="auto",
        show_default=True,
        help="Whether each process holds the whole network (ddp) or a share of it (fsdp).",
    ),
)


def shared(function: Function) -> Function:
    """Let several processes share the work of a command; only the first of them is heard."""

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

        with distributed(devices=devices, nodes=nodes, strategy=strategy), _heard(context):
            return function(*args, **options)

    found: Any = run
    for option in reversed(OPTIONS):
        found = option(found)
    return found  # type: ignore[no-any-return]


def speaks() -> bool:
    """Tell whether this process is the one of its machine that complains about a command line."""
    return int(os.environ.get("LOCAL_RANK") or 0) == 0 or "WORLD_SIZE" not in os.environ


def _refuse_standard_input(context: click.Context, options: Mapping[str, Any]) -> None:
    """Refuse an input that only one process could read."""
    for parameter in context.command.params:
        if parameter.type is DATA_OR_STDIN and options.get(str(parameter.name)) == Path("-"):
            raise click.UsageError("several processes cannot read standard input: name a file")


@contextmanager
def _heard(context: click.Context) -> Iterator[None]:
    """Let the first process speak, and of those that fail the first that does."""
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
