"""Score tables as plain text, Markdown and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Metrics = dict[str, float]
"""Scores by name."""


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """Scores on one data set, one row for each model."""

    title: str
    """Data set, task and scoring rule in one line."""

    columns: tuple[str, ...]
    """Metrics to print."""

    rows: tuple[tuple[str, Mapping[str, float]], ...]
    """Name of each model and its metrics; a missing metric is printed as ``-``."""

    def to_text(self) -> str:
        """Return the table as text with aligned columns."""
        return f"{self.title}\n{text_table(('model', *self.columns), self._cells())}"

    def to_markdown(self) -> str:
        """Return the table in Markdown, with its title as a heading."""
        return f"## {self.title}\n\n{markdown_table(('model', *self.columns), self._cells())}"

    def to_record(self) -> dict[str, Any]:
        """Return all metrics as plain values; NaN becomes None."""
        return {
            "title": self.title,
            "scores": {
                name: {key: None if value != value else value for key, value in metrics.items()}
                for name, metrics in self.rows
            },
        }

    def _cells(self) -> list[tuple[str, ...]]:
        """Return the printed rows."""
        return [
            (name, *(format_score(metrics.get(column)) for column in self.columns))
            for name, metrics in self.rows
        ]


def format_score(value: float | None) -> str:
    """Return a score with three decimals; integers and numbers from 1,000 have none."""
    if value is None or value != value:
        return "-"
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.3f}"


def text_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose first column is aligned to the left, the others to the right."""
    lines = [tuple(header), *map(tuple, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    rule = tuple("-" * width for width in widths)
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (lines[0], rule, *lines[1:])
    )


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; all columns but the first are aligned to the right."""
    rule = ("---", *("---:" for _ in header[1:]))
    return "\n".join(f"| {' | '.join(line)} |" for line in (tuple(header), rule, *rows))


def to_json(value: Any) -> str:
    """Return JSON text for a file."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"
