"""Collect the figures of a tutorial, including those not registered with pyplot."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst, matplotlib_scraper


def figures(block: tuple[Any, ...], block_vars: dict[str, Any], conf: dict[str, Any]) -> str:
    """Save every figure that a block created; its title becomes the alternative text.

    ``TitansForecaster.plot`` and its like return figures without opening them in pyplot.
    """
    seen: set[int] = block_vars["example_globals"].setdefault("__figures__", set())
    opened = [plt.figure(number) for number in plt.get_fignums()]
    text = [matplotlib_scraper(block, block_vars, conf)] if opened else []
    seen |= {id(figure) for figure in opened}
    for value in list(block_vars["example_globals"].values()):
        if isinstance(value, Figure) and id(value) not in seen:
            seen.add(id(value))
            path = next(block_vars["image_path_iterator"])
            value.savefig(path, dpi=130)
            heading = value.get_suptitle() or "Figure"
            text.append(figure_rst([os.fspath(Path(path))], conf["src_dir"], heading))
    return "".join(text)
