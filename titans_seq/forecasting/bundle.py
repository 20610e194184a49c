"""The model folder of a forecaster: settings, weights, what was learnt about the data, a card."""

from __future__ import annotations

import numbers
import os
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor

from titans_seq.bundles import load_bundle, save_bundle
from titans_seq.config import record_from_table
from titans_seq.exceptions import BundleError
from titans_seq.forecasting.card import write_card
from titans_seq.forecasting.learning.fitting import forecast_network_config
from titans_seq.forecasting.network.network import ForecastNetwork
from titans_seq.forecasting.predicting.conformal import CALIBRATION_PREFIX, Calibration
from titans_seq.forecasting.stream.fitting import stream_config
from titans_seq.forecasting.stream.model import PREFIX as STREAM
from titans_seq.forecasting.stream.model import StreamModel
from titans_seq.forecasting.tables.panel import Preprocess
from titans_seq.training import History

KIND = "forecaster"
"""Kind of the model folder."""


def save_forecaster(
    folder: str | os.PathLike[str],
    settings: Mapping[str, Any],
    network: ForecastNetwork,
    preprocess: Preprocess,
    history: History | None,
    calibration: Calibration | None,
    memories: StreamModel | None,
    *,
    force: bool,
) -> None:
    """Write a trained forecaster.

    Raises
    ------
    BundleError
        If the folder holds something that may not be replaced.
    """
    kept = dict(settings)
    if not isinstance(kept["random_state"], numbers.Integral):
        kept["random_state"] = None
    save_bundle(
        folder,
        kind=KIND,
        config=kept,
        tensors=network.state_dict()
        | ({} if calibration is None else calibration.to_tensors())
        | ({} if memories is None else memories.to_tensors()),
        preprocess=asdict(preprocess),
        metrics={} if history is None else history.to_table(),
        card=write_card(kept, preprocess, history),
        force=force,
    )


def load_forecaster(
    folder: str | os.PathLike[str], known: Collection[str]
) -> tuple[dict[str, Any], ForecastNetwork, Preprocess, Calibration | None, StreamModel | None]:
    """Read settings, network, what was learnt about the data, calibration and memories.

    Parameters
    ----------
    folder
        What :func:`save_forecaster` wrote.
    known
        Names of the settings that there are.

    Raises
    ------
    BundleError
        If the folder is none, or holds another kind of model, or is damaged.
    """
    bundle = load_bundle(folder, KIND)
    settings = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in bundle.config.items()
    }
    strange = sorted(settings.keys() - set(known))
    if strange:
        raise BundleError(f"{folder} is damaged: there is no setting {strange[0]!r}")
    try:
        preprocess = record_from_table(Preprocess, bundle.preprocess, f"{folder}")
        network = ForecastNetwork(forecast_network_config(settings, preprocess))
        weights = {
            name: held
            for name, held in bundle.tensors.items()
            if not name.startswith((CALIBRATION_PREFIX, STREAM))
        }
        _check_weights(weights, network.state_dict())
        network.load_state_dict(weights)
        calibration = Calibration.from_tensors(bundle.tensors, network.config.horizon)
        memories = StreamModel.from_tensors(bundle.tensors, stream_config(network, preprocess))
    except (TypeError, ValueError, RuntimeError, KeyError) as error:
        raise BundleError(f"{folder} is damaged: {error}") from error
    return settings, network.eval(), preprocess, calibration, memories


def _check_weights(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Refuse weights of another network, by the name of the first that does not fit."""
    strange = sorted(found.keys() ^ wanted.keys())
    if strange:
        what = "unknown" if strange[0] in found else "missing"
        raise ValueError(f"the weight {strange[0]} is {what}")
    for name, weight in wanted.items():
        if found[name].shape != weight.shape:
            raise ValueError(
                f"the weight {name} has the shape {tuple(found[name].shape)}, "
                f"not {tuple(weight.shape)}"
            )
