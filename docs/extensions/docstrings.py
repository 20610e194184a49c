"""What the docstrings of this project need before numpydoc and sphinx-click read them."""

from __future__ import annotations

import re
from typing import Any

import click
from sphinx.application import Sphinx

OURS = ("titans_seq", "cli")


def leave_out_others(
    app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out members that classes inherit from other packages, or are given by them."""
    owner = getattr(getattr(obj, "fget", obj), "__module__", None)
    if owner is None or owner.startswith(OURS):
        # scikit-learn writes set_fit_request and the like into every estimator
        return True if re.fullmatch(r"set_\w+_request", name) else None
    return True if callable(obj) or isinstance(obj, property) else None


def show_shapes(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Turn a section "Shapes", which numpydoc does not know, into notes as they stand."""
    if "Shapes" not in lines:
        return
    begin = lines.index("Shapes")
    end = next((n for n in range(begin + 2, len(lines)) if not lines[n].strip()), len(lines))
    body = [f"    {line}" for line in lines[begin + 2 : end]]
    lines[begin:end] = ["Notes", "-----", "Shapes::", "", *body, ""]


def forget_field_numbers(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Drop what Python says of a named tuple's field that nobody described."""
    if lines and lines[0].startswith("Alias for field number"):
        lines.clear()


def show_examples(app: Sphinx, ctx: click.Context, lines: list[str]) -> None:
    """Set the examples in a command's help as code."""
    for number, line in enumerate(lines):
        if re.fullmatch(r"\| Examples?:", line):
            commands = [f"   {one.removeprefix('|').strip()}" for one in lines[number + 1 :] if one]
            lines[number:] = [line.removeprefix("| "), "", ".. code-block:: console", "", *commands]
            return


def setup(app: Sphinx) -> dict[str, bool]:
    """Register what stands above."""
    app.connect("autodoc-skip-member", leave_out_others)
    app.connect("autodoc-process-docstring", show_shapes, priority=400)  # numpydoc has 500
    app.connect("autodoc-process-docstring", forget_field_numbers, priority=400)
    app.connect("sphinx-click-process-description", show_examples)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
