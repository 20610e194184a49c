"""Plots of scores: bars by model, lines."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

_COLOURS = {
    "ours": "#c44e52",
    "control": "#b0b0b0",
    "published": "#4c72b0",
    "not comparable": "#ffffff",
}


class Bar(NamedTuple):
    """The score of one model."""

    label: str
    value: float
    kind: str
    """``ours``, ``control``, ``published`` or ``not comparable``: chooses the colour."""


class BarPanel(NamedTuple):
    """The scores on one data set."""

    title: str
    bars: Sequence[Bar]


def plot_bar_panels(panels: Sequence[BarPanel], path: str | os.PathLike[str]) -> None:
    """Draw panels of bars one below another, with a key of the kinds.

    Parameters
    ----------
    panels
        Bars by data set.
    path
        File to write, ``.png``, ``.svg`` or ``.pdf``.
    """
    heights = [max(2, len(panel.bars)) for panel in panels]
    figure = Figure(figsize=(8, 0.6 + sum(0.24 * height + 0.8 for height in heights)))
    all_axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, panel in zip(all_axes, panels, strict=True):
        for position, bar in enumerate(panel.bars):
            axes.barh(position, bar.value, **_style(bar.kind))
            _write_value(axes, position, bar.value, f"{bar.value:.3f}")
        labels = [bar.label for bar in panel.bars]
        axes.set_yticks(range(len(labels)), labels, fontsize=7)
        _finish_bars(axes, panel.title)
    drawn = {bar.kind for panel in panels for bar in panel.bars}
    kinds = [kind for kind in _COLOURS if kind in drawn]
    key = [Patch(**_style(kind)) for kind in kinds]
    figure.legend(key, kinds, loc="lower right", fontsize=7, ncols=len(kinds), frameon=False)
    figure.tight_layout(rect=(0, 0.02, 1, 1))
    figure.savefig(path, dpi=150)


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
        By name, x and y values.
    path
        File to write.
    title
        Heading.
    axes
        Labels of the x and y axis.
    logarithmic
        Whether the x axis is logarithmic to base 2.
    """
    figure = Figure(figsize=(8, 3.6))
    panel = figure.subplots()
    for name, (x, y) in lines.items():
        panel.plot(x, y, label=name, linewidth=1, marker="o" if logarithmic else None)
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
    """Draw one bar for each name, with its value beside it."""
    figure = Figure(figsize=(8, 1 + 0.3 * len(bars)))
    axes = figure.subplots()
    axes.barh(list(bars), list(bars.values()), color=_COLOURS["ours"])
    for position, value in enumerate(bars.values()):
        _write_value(axes, position, value, f"{value:.3g}")
    axes.set_xlabel(axis)
    _finish_bars(axes, title)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def _style(kind: str) -> dict[str, Any]:
    """Return the look of a kind of bar."""
    hatch = "///" if kind == "not comparable" else None
    return {"facecolor": _COLOURS[kind], "edgecolor": "#4c72b0", "hatch": hatch}


def _write_value(axes: Axes, position: int, value: float, text: str) -> None:
    """Write a bar's value behind its end."""
    axes.text(value, position, f" {text}", va="center", fontsize=7)


def _finish_bars(axes: Axes, title: str) -> None:
    """Put the first bar at the top, and leave room for the values."""
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_title(title, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
