"""Pictures of comparisons."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from titans_seq.evaluation.runs.comparison import LOWER_IS_BETTER, Comparison

COLOURS = {
    "ours": "#c44e52",
    "control": "#b0b0b0",
    "published": "#4c72b0",
    "not comparable": "#ffffff",
}


def plot_comparisons(
    comparisons: Sequence[Comparison], path: str | os.PathLike[str] | None = None
) -> Figure:
    """Draw the main figure of each model as a bar, a panel a data set.

    Figures that cannot be compared are hatched; the reasons stand in the table.

    Parameters
    ----------
    comparisons
        What to draw.
    path
        File to write, ``.png``, ``.svg`` or ``.pdf``; None writes nothing.
    """
    shown = [(one, one.main_scores()) for one in comparisons]
    heights = [max(2, len(scores)) for _, scores in shown]
    figure = Figure(figsize=(8, 0.6 + sum(0.24 * height + 0.8 for height in heights)))
    panels = figure.subplots(len(shown), 1, squeeze=False, height_ratios=heights)[:, 0]
    for panel, (one, scores) in zip(panels, shown, strict=True):
        for place, (row, value) in enumerate(scores):
            hatch = "///" if row.kind == "not comparable" else None
            panel.barh(place, value, color=COLOURS[row.kind], edgecolor="#4c72b0", hatch=hatch)
            panel.text(value, place, f" {value:.3f}", va="center", fontsize=7)
        panel.set_yticks(range(len(scores)), [row.model for row, _ in scores], fontsize=7)
        panel.invert_yaxis()
        panel.margins(x=0.12)
        better = "lower" if one.metric in LOWER_IS_BETTER else "higher"
        panel.set_title(f"{one.card.name}: {one.metric}, {better} is better", fontsize=9)
        panel.spines[["top", "right"]].set_visible(False)
    kinds = [kind for kind in COLOURS if any(r.kind == kind for _, s in shown for r, _ in s)]
    bars = [_patch(kind) for kind in kinds]
    figure.legend(bars, kinds, loc="lower right", fontsize=7, ncols=len(kinds), frameon=False)
    figure.tight_layout(rect=(0, 0.02, 1, 1))
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def _patch(kind: str) -> Patch:
    """Return the key of a kind of bar."""
    hatch = "///" if kind == "not comparable" else None
    return Patch(facecolor=COLOURS[kind], edgecolor="#4c72b0", hatch=hatch)


def plot_lines(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    path: str | os.PathLike[str],
    *,
    title: str,
    axes: tuple[str, str],
    logarithmic: bool = False,
) -> None:
    """Draw named lines in one panel.

    Parameters
    ----------
    lines
        By name, places on the one axis and on the other.
    path
        File to write.
    title
        Heading.
    axes
        What the axes show.
    logarithmic
        Whether the horizontal axis doubles from tick to tick.
    """
    figure = Figure(figsize=(8, 3.6))
    panel = figure.subplots()
    for name, (across, up) in lines.items():
        panel.plot(across, up, label=name, linewidth=1, marker="o" if logarithmic else None)
    if logarithmic:
        panel.set_xscale("log", base=2)
    panel.set(xlabel=axes[0], ylabel=axes[1])
    panel.set_title(title, fontsize=9)
    panel.legend(fontsize=7, frameon=False)
    panel.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def plot_bars(
    bars: Mapping[str, float], path: str | os.PathLike[str], *, title: str, axis: str
) -> None:
    """Draw one bar a name, the figure beside it."""
    figure = Figure(figsize=(8, 1 + 0.3 * len(bars)))
    panel = figure.subplots()
    panel.barh(list(bars), list(bars.values()), color=COLOURS["ours"])
    for place, value in enumerate(bars.values()):
        panel.text(value, place, f" {value:.3g}", va="center", fontsize=7)
    panel.invert_yaxis()
    panel.margins(x=0.12)
    panel.set_xlabel(axis)
    panel.set_title(title, fontsize=9)
    panel.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
