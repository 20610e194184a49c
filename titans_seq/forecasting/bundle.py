"""Model folders of forecasters: settings, weights, preprocessing and a card for readers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from titans_seq.bundles import load_bundle, load_weights, save_bundle
from titans_seq.config import record_from_table
from titans_seq.exceptions import BundleError
from titans_seq.forecasting.fitted import FittedForecast
from titans_seq.forecasting.learning.fitting import forecast_network_config
from titans_seq.forecasting.network.network import ForecastNetwork
from titans_seq.forecasting.predicting.conformal import CALIBRATION_PREFIX, Calibration
from titans_seq.forecasting.settings import ForecastSettings
from titans_seq.forecasting.stream.fitting import stream_config
from titans_seq.forecasting.stream.model import STREAM_PREFIX, StreamModel
from titans_seq.forecasting.tables.panel import Preprocess
from titans_seq.training import History

KIND = "forecaster"
"""Kind of the model folder."""


def save_forecaster(
    folder: str | os.PathLike[str],
    settings: ForecastSettings,
    fitted: FittedForecast,
    *,
    force: bool,
) -> None:
    """Write a trained forecaster.

    Raises
    ------
    BundleError
        If the folder holds something that may not be replaced.
    """
    tensors = fitted.network.state_dict()
    for extra in (fitted.calibration, fitted.memories):
        tensors |= {} if extra is None else extra.to_tensors()
    save_bundle(
        folder,
        kind=KIND,
        config=dict(sorted(asdict(settings).items())),
        tensors=tensors,
        preprocess=asdict(fitted.preprocess),
        metrics={} if fitted.history is None else fitted.history.to_table(),
        card=write_card(settings, fitted.preprocess, fitted.history),
        force=force,
    )


def load_forecaster(
    folder: str | os.PathLike[str], defaults: Mapping[str, Any]
) -> tuple[dict[str, Any], FittedForecast]:
    """Read the parameters of a forecaster, and what it had learnt.

    Parameters
    ----------
    folder
        What :func:`save_forecaster` wrote.
    defaults
        All parameters of a forecaster; a folder written before one was added lacks it.

    Raises
    ------
    BundleError
        If the folder is none, or holds another kind of model, or is damaged.
    """
    bundle = load_bundle(folder, KIND)
    params = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in bundle.config.items()
    }
    unknown = sorted(params.keys() - defaults.keys())
    if unknown:
        raise BundleError(f"{folder} is damaged: there is no setting {unknown[0]!r}")
    try:
        preprocess = record_from_table(Preprocess, bundle.preprocess, f"{folder}")
        settings = ForecastSettings.from_params({**defaults, **params})
        network = ForecastNetwork(forecast_network_config(settings, preprocess))
        weights = {
            name: tensor
            for name, tensor in bundle.tensors.items()
            if not name.startswith((CALIBRATION_PREFIX, STREAM_PREFIX))
        }
        load_weights(network, weights)
        calibration = Calibration.from_tensors(bundle.tensors, network.config.horizon)
        memories = StreamModel.from_tensors(bundle.tensors, stream_config(network, preprocess))
    except (TypeError, ValueError, RuntimeError, KeyError) as error:
        raise BundleError(f"{folder} is damaged: {error}") from error
    return params, FittedForecast(network.eval(), preprocess, calibration, memories)


def write_card(settings: ForecastSettings, preprocess: Preprocess, history: History | None) -> str:
    """Return the model card, in Markdown: the task, the data, and how training went."""
    context = settings.context_length
    rows = "all before" if context is None else f"the last {context}"
    lines = [
        "# Titans forecaster",
        "",
        f"Forecasts {settings.horizon} rows from {rows}, "
        f"at frequency {preprocess.freq!r}; variant `{settings.variant}`.",
        "",
        "| column | role |",
        "| --- | --- |",
    ]
    for role in ("id_col", "time_col", "target_col", "static", "past", "future"):
        value = getattr(settings, role)
        names = value if isinstance(value, list | tuple) else [value]
        lines += [f"| `{name}` | {role.removesuffix('_col')} |" for name in names if name]
    first = ", ".join(str(name) for name in preprocess.ids[:10])
    others = f" and {len(preprocess.ids) - 10} more" if len(preprocess.ids) > 10 else ""
    lines += ["", f"Trained on {len(preprocess.ids)} series: {first}{others}."]
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
