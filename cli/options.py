"""Words that several commands share."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])

DATA = click.Path(exists=True, dir_okay=False, path_type=Path)
"""A file that must be there."""

DATA_OR_STDIN = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
"""The same, or ``-`` for standard input."""

FOLDER = click.Path(path_type=Path)
"""A folder; the library says what is wrong with it."""


class OutFile(click.ParamType):  # type: ignore[type-arg]
    """A file to be written, refused before the work if it cannot be.

    Parameters
    ----------
    suffixes
        Kinds of files that can be written; ``-`` for standard output is always one.
    """

    name = "file"

    def __init__(self, *suffixes: str) -> None:
        self.suffixes = suffixes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path; fail as a usage error."""
        path = Path(value)
        if str(path) == "-":
            return path
        if path.is_dir():
            self.fail(f"{value!r} is a folder, not a file", param, ctx)
        if not path.parent.is_dir():
            self.fail(f"{value!r}: there is no folder {str(path.parent)!r}", param, ctx)
        if path.suffix not in self.suffixes and not path.exists():
            self.fail(f"{value!r} must end in {', '.join(self.suffixes)}", param, ctx)
        return path


class Words(click.ParamType):  # type: ignore[type-arg]
    """Words parted by commas, such as names of columns."""

    name = "name,name"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the words without the blanks around them."""
        if isinstance(value, tuple):
            return value
        return tuple(word.strip() for word in value.split(",") if word.strip())


class Numbers(Words):
    """Numbers parted by commas."""

    name = "number,number"

    def convert(  # type: ignore[override]
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Return the numbers."""
        try:
            return tuple(float(word) for word in super().convert(value, param, ctx))
        except ValueError:
            self.fail(f"{value!r} are not numbers parted by commas", param, ctx)


class RowsOrNone(click.ParamType):  # type: ignore[type-arg]
    """A number of rows, or ``none``."""

    name = "rows"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        """Return the number."""
        if str(value).lower() == "none":
            return None
        if not str(value).isdigit() or int(value) < 1:
            self.fail(f"{value!r} is neither a number of rows from 1 on nor none", param, ctx)
        return int(value)


def joined(
    ctx: click.Context, param: click.Parameter, value: tuple[tuple[str, ...], ...]
) -> tuple[str, ...]:
    """Return the words of an option that may be repeated, as one tuple."""
    return tuple(word for words in value for word in words)


def option_group(
    name: str, record: type[Any], *options: Callable[[Any], Any]
) -> Callable[[Function], Function]:
    """Let a command take several options as one record.

    Parameters
    ----------
    name
        Argument of the command that gets the record.
    record
        A dataclass whose fields are called as the options are.
    options
        Click's decorators, in the order of the help.
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def pack(*args: Any, **values: Any) -> Any:
            fields = {field.name: values.pop(field.name) for field in dataclasses.fields(record)}
            return function(*args, **values, **{name: record(**fields)})

        packed: Any = pack
        for option in reversed(options):
            packed = option(packed)
        return packed  # type: ignore[no-any-return]

    return decorate


MODEL_IN = click.option(
    "--model", type=FOLDER, required=True, help="Model folder that `fit` wrote."
)
MODEL_OUT = click.option(
    "--model", type=FOLDER, required=True, help="Folder to write the model to."
)
FORCE = click.option("--force", is_flag=True, help="Replace the model that is there.")
SCORES_OUT = click.option(
    "--out", type=OutFile(".json"), help="Write the scores as JSON, too; - prints only these."
)
