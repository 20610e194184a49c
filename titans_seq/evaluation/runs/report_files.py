"""Files of comparisons: Markdown, JSON, or a bar chart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from titans_seq.evaluation.runs.comparison import LOWER_IS_BETTER, Comparison
from titans_seq.exceptions import ConfigError
from titans_seq.files import write_json, write_whole

_TEXT_SUFFIXES, _PICTURE_SUFFIXES = (".md", ".json"), (".png", ".svg", ".pdf")


def write_comparison(comparisons: Sequence[Comparison], path: Path) -> None:
    """Write comparisons as Markdown, JSON or a picture, by the file's suffix.

    Raises
    ------
    ConfigError
        If the suffix is none of ``.md``, ``.json``, ``.png``, ``.svg`` and ``.pdf``.
    """
    if path.suffix == ".json":
        write_json(path, {"comparisons": [comparison.to_record() for comparison in comparisons]})
    elif path.suffix == ".md":
        with write_whole(path) as temporary:
            text = "\n".join(comparison.to_markdown() for comparison in comparisons)
            temporary.write_text(text, "utf-8")
    elif path.suffix in _PICTURE_SUFFIXES:
        with write_whole(path) as temporary:
            plot_comparisons(comparisons, temporary)
    else:
        known = ", ".join((*_TEXT_SUFFIXES, *_PICTURE_SUFFIXES))
        raise ConfigError(f"{path}: the suffix must be one of {known}")


def plot_comparisons(comparisons: Sequence[Comparison], path: Path) -> None:
    """Draw the main score of each model as a bar, one panel for each data set.

    Scores that are not comparable are hatched; the reasons are in the table.
    """
    from titans_seq.evaluation.scores.plots import Bar, BarPanel, plot_bar_panels

    panels = []
    for comparison in comparisons:
        better = "lower" if comparison.metric in LOWER_IS_BETTER else "higher"
        title = f"{comparison.card.name}: {comparison.metric}, {better} is better"
        bars = [Bar(row.model, value, row.kind) for row, value in comparison.main_scores()]
        panels.append(BarPanel(title, bars))
    plot_bar_panels(panels, path)
