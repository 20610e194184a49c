"""Prepare this project's docstrings for numpydoc and sphinx-click."""

from __future__ import annotations

import re
from typing import Any

import click
from sphinx.application import Sphinx

OUR_PACKAGES = ("titans_seq", "cli")


def skip_foreign_members(
    app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Skip members that classes inherit from other packages or that these add."""
    owner = getattr(getattr(obj, "fget", obj), "__module__", None)
    if owner is None or owner.startswith(OUR_PACKAGES):
        # scikit-learn adds set_fit_request and the like to every estimator
        return True if re.fullmatch(r"set_\w+_request", name) else None
    return True if callable(obj) or isinstance(obj, property) else None


def convert_shapes_section(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Turn a "Shapes" section, which numpydoc does not know, into literal notes."""
    if "Shapes" not in lines:
        return
    begin = lines.index("Shapes")
    end = next((n for n in range(begin + 2, len(lines)) if not lines[n].strip()), len(lines))
    body = [f"    {line}" for line in lines[begin + 2 : end]]
    lines[begin:end] = ["Notes", "-----", "Shapes::", "", *body, ""]


def drop_field_numbers(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Drop Python's default docstring of named-tuple fields."""
    if lines and lines[0].startswith("Alias for field number"):
        lines.clear()


def format_examples(app: Sphinx, ctx: click.Context, lines: list[str]) -> None:
    """Format the examples in a command's help as code."""
    for number, line in enumerate(lines):
        if re.fullmatch(r"\| Examples?:", line):
            rest = lines[number + 1 :]
            commands = [f"   {text.removeprefix('|').strip()}" for text in rest if text]
            title = line.removeprefix("| ")
            lines[number:] = [title, "", ".. code-block:: console", "", *commands]
            return


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the handlers."""
    app.connect("autodoc-skip-member", skip_foreign_members)
    # numpydoc processes docstrings at priority 500.
    app.connect("autodoc-process-docstring", convert_shapes_section, priority=400)
    app.connect("autodoc-process-docstring", drop_field_numbers, priority=400)
    app.connect("sphinx-click-process-description", format_examples)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
