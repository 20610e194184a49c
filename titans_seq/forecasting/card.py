"""The model card of a forecaster, for a reader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from titans_seq.forecasting.tables.panel import Preprocess
from titans_seq.training import History


def write_card(settings: Mapping[str, Any], preprocess: Preprocess, history: History | None) -> str:
    """Return what was trained, on what, and how it went, in Markdown."""
    context = settings["context_length"]
    lines = [
        "# Titans forecaster",
        "",
        f"Forecasts {settings['horizon']} rows from "
        + ("all before" if context is None else f"the last {context}")
        + ", "
        f"at frequency {preprocess.freq!r}; variant `{settings['variant']}`.",
        "",
        "| column | role |",
        "| --- | --- |",
    ]
    for role in ("id_col", "time_col", "target_col", "static", "past", "future"):
        given = settings[role]
        names = given if isinstance(given, list | tuple) else [given]
        lines += [f"| `{name}` | {role.removesuffix('_col')} |" for name in names if name]
    first = ", ".join(str(name) for name in preprocess.ids[:10])
    more = f" and {len(preprocess.ids) - 10} more" if len(preprocess.ids) > 10 else ""
    lines += ["", f"Trained on {len(preprocess.ids)} series: {first}{more}."]
    if preprocess.cycles:
        lines.append(f"Cycles of the calendar: {', '.join(preprocess.cycles)}.")
    if history is not None:
        loss = "" if history.best_loss is None else f", validation loss {history.best_loss:.4f}"
        lines.append(
            f"{history.steps} steps, best epoch {history.best_epoch} of {len(history.epochs)}"
            f"{loss}; stopped by {history.stopped_by}."
        )
    lines += ["", "Load it with `TitansForecaster.load(folder)`; nothing in it is a pickle.", ""]
    return "\n".join(lines)
