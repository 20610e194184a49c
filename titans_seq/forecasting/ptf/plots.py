"""Plots of the attribution of forecasts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from titans_seq.forecasting.ptf.attribution import ATTENTION_PARTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

_LABELS = {
    "attention": "attention",
    "memory": "change of the forecast\nwithout the memory's write",
    "surprise": "surprise of the memory",
}


def draw_attribution(axes: Axes, curves: Mapping[str, Tensor], rows: int) -> None:
    """Draw the attribution to the last ``rows`` rows of the look-back behind a forecast.

    The curves have different units; each is drawn as a share of its largest value.
    """
    twin = axes.twinx()
    twin.set_ylabel("share of the largest")
    twin.set_ylim(0, 1.05)
    row_numbers = range(-rows, 0)
    for name, style in (("attention", ":"), ("memory", "--"), ("surprise", "-.")):
        if name in curves and rows:
            curve = curves[name][-rows:].detach().cpu().nan_to_num()
            largest = float(curve.max())
            scaled = (curve / largest if largest else curve).tolist()
            twin.plot(
                row_numbers, scaled, ls=style, color="0.3", alpha=0.6, label=name, ds="steps-mid"
            )
    twin.legend(loc="upper left", fontsize="small")


def plot_attribution(curves: Mapping[str, Tensor], title: str = "") -> dict[str, Figure]:
    """Return a figure of each curve over the look-back, and one of the parts of the attention.

    Parameters
    ----------
    curves
        ``attention``, ``memory`` and ``surprise`` of length context, ``attention_parts`` of
        length 4, as far as the variant has them.
    title
        Prefix of each heading.
    """
    figures = {}
    for name, values in curves.items():
        figure = Figure(layout="constrained")
        axes = figure.subplots()
        numbers = values.detach().cpu().tolist()
        if name == "attention_parts":
            axes.barh(ATTENTION_PARTS, numbers)
            axes.invert_yaxis()
            axes.set_xlabel("share of the attention")
        else:
            axes.plot(range(-len(numbers), 0), numbers, drawstyle="steps-mid")
            axes.set_xlabel("rows before the forecast")
            axes.set_ylabel(_LABELS[name])
        axes.set_title(f"{title} {name.replace('_', ' ')}".strip())
        figures[name] = figure
    return figures
