"""Pictures of what a model looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from titans_seq.forecasting.ptf.looking import PARTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

LABELS = {
    "attention": "attention",
    "memory": "movement of the forecast\nwithout the memory's write",
    "surprise": "surprise of the memory",
}


def draw_looks(axes: Axes, curves: Mapping[str, Tensor], rows: int) -> None:
    """Draw, behind a forecast, what it looked at in the last ``rows`` rows of the look-back.

    Curves have units of their own; each is drawn as a share of its largest value.
    """
    behind = axes.twinx()
    behind.set_ylabel("share of the largest")
    behind.set_ylim(0, 1.05)
    places = range(-rows, 0)
    for name, style in (("attention", ":"), ("memory", "--"), ("surprise", "-.")):
        if name in curves and rows:
            curve = curves[name][-rows:].detach().cpu().nan_to_num()
            top = float(curve.max())
            shown = (curve / top if top else curve).tolist()
            behind.plot(places, shown, ls=style, color="0.3", alpha=0.6, label=name, ds="steps-mid")
    behind.legend(loc="upper left", fontsize="small")


def plot_looks(curves: Mapping[str, Tensor], title: str = "") -> dict[str, Figure]:
    """Return one figure for each curve over the look-back, and one of what attention fell on.

    Parameters
    ----------
    curves
        ``attention``, ``memory`` and ``surprise`` of length context, ``attention_parts`` of
        length 4, as far as the variant has them.
    title
        Put before each heading.
    """
    figures = {}
    for name, values in curves.items():
        figure = Figure(layout="constrained")
        axes = figure.subplots()
        shown = values.detach().cpu().tolist()
        if name == "attention_parts":
            axes.barh(PARTS, shown)
            axes.invert_yaxis()
            axes.set_xlabel("share of the attention")
        else:
            axes.plot(range(-len(shown), 0), shown, drawstyle="steps-mid")
            axes.set_xlabel("rows before the forecast")
            axes.set_ylabel(LABELS[name])
        axes.set_title(f"{title} {name.replace('_', ' ')}".strip())
        figures[name] = figure
    return figures
