"""Parameter types and options that several commands share."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])

DATA = click.Path(exists=True, dir_okay=False, path_type=Path)
"""An existing file."""

DATA_OR_STDIN = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
"""An existing file, or ``-`` for standard input."""

FOLDER = click.Path(path_type=Path)
"""A folder, checked by the library."""


class OutFile(click.ParamType):  # type: ignore[type-arg]
    """A file to write, checked before the work begins.

    Parameters
    ----------
    suffixes
        Allowed suffixes; ``-``, standard output, is always allowed.
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
            self.fail(f"{value!r} must end in one of {', '.join(self.suffixes)}", param, ctx)
        return path


class NameList(click.ParamType):  # type: ignore[type-arg]
    """Names separated by commas, such as those of columns."""

    name = "name,name"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the names, without the spaces around them."""
        if isinstance(value, tuple):
            return value
        return tuple(name.strip() for name in value.split(",") if name.strip())


class NumberList(NameList):
    """Numbers separated by commas."""

    name = "number,number"

    def convert(  # type: ignore[override]
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Return the numbers."""
        try:
            return tuple(float(number) for number in super().convert(value, param, ctx))
        except ValueError:
            self.fail(f"{value!r} must be numbers separated by commas", param, ctx)


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
            self.fail(f"{value!r} must be a positive number of rows, or none", param, ctx)
        return int(value)


def concatenate(
    ctx: click.Context, param: click.Parameter, value: tuple[tuple[str, ...], ...]
) -> tuple[str, ...]:
    """Return the names of a repeated option as one tuple."""
    return tuple(name for names in value for name in names)


def option_group(
    name: str, record: type[Any], *options: Callable[[Any], Any]
) -> Callable[[Function], Function]:
    """Pass several options to a command as one record.

    Parameters
    ----------
    name
        Argument of the command that takes the record.
    record
        A dataclass with a field of the name of each option.
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
FORCE = click.option("--force", is_flag=True, help="Replace an existing model.")
SCORES_OUT = click.option(
    "--out", type=OutFile(".json"), help="Also write the scores as JSON; - prints only the JSON."
)
