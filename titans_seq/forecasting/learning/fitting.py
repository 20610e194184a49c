"""Training of a forecasting network on a panel."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from titans_seq.exceptions import DataError
from titans_seq.forecasting.learning.closed_form.start import idle_cycles, solve_start, take_start
from titans_seq.forecasting.learning.forecasts import FORECAST_BATCH
from titans_seq.forecasting.learning.losses import summed_forecast_loss, training_terms
from titans_seq.forecasting.learning.shrinkage import shrink_backbone
from titans_seq.forecasting.learning.windows import (
    WindowBatches,
    WindowIndex,
    drop_empty,
    first_cutoff,
    index_windows,
)
from titans_seq.forecasting.network.config import NetworkConfig
from titans_seq.forecasting.network.network import ForecastNetwork
from titans_seq.forecasting.settings import ForecastSettings
from titans_seq.forecasting.tables.arrays import IntArray
from titans_seq.forecasting.tables.panel import Panel, Preprocess, without_cycles
from titans_seq.training import History, TrainSettings, seeded, train, world

LONGEST_PATCH = 24
"""Rows of a token, at most."""

LONGEST_HORIZON_PATCH = 48
"""Rows of a token of the horizon, at most."""

_MEMORY_CONTEXT = 96
"""Rows to look back on where memories keep the rows before."""

PATCHES = 4
"""Tokens of a short look-back, at least."""

_HEADS = 2
"""Heads of the backbone."""

_PATIENCE = 10
"""Epochs without a better validation loss before training stops."""

TRAIN_WINDOWS = 32_768
"""Windows of an epoch, at most."""

VALIDATION_WINDOWS = 8_192
"""Windows that choose the epoch, at most; evenly spread."""

TOKEN_DROPOUT = 0.5
"""Share of a training window's tokens that are dropped, at most."""

SMALLEST_BATCH = 16
BATCHES_PER_EPOCH = 32
"""With few windows the batches are smaller, so that an epoch still has this many steps."""

MOST_MAP_SUMS = 6_000_000
"""Numbers of the normal equations of all series' own maps; with more there are no such maps."""


class Trained(NamedTuple):
    """A trained network and its data."""

    network: ForecastNetwork
    preprocess: Preprocess
    """Without the cycles that do not improve forecasts."""

    panel: Panel
    """All rows, without those cycles."""

    history: History

    held_out: WindowIndex
    """Windows whose targets were not trained on; perhaps none."""


def forecast_network_config(settings: ForecastSettings, preprocess: Preprocess) -> NetworkConfig:
    """Return the network's settings, from those of a forecaster and the sizes of its data.

    Raises
    ------
    ConfigError
        If a setting is out of its range.
    """
    given = settings.context_length
    context = _MEMORY_CONTEXT if given is None else given
    series = len(preprocess.ids)
    map_sums = series * context * (context + settings.horizon)
    return NetworkConfig(
        context_length=context,
        horizon=settings.horizon,
        quantiles=tuple(settings.quantiles),
        variant=settings.variant,
        normalise=settings.normalise,
        dim=settings.dim,
        layers=settings.layers,
        heads=_HEADS,
        patch_length=max(1, min(LONGEST_PATCH, context // PATCHES)),
        horizon_patch=min(LONGEST_HORIZON_PATCH, settings.horizon),
        series_maps=series > 1 and map_sums <= MOST_MAP_SUMS,
        **preprocess.sizes(settings.columns()),
    )


def split_windows(
    config: NetworkConfig, panel: Panel, train_rows: IntArray
) -> tuple[WindowIndex, WindowIndex]:
    """Return the windows to train on, and those that choose the epoch.

    Raises
    ------
    DataError
        If there is no window to train on.
    """
    lengths = {"context_length": config.context_length, "horizon": config.horizon}
    ends = train_rows.tolist()
    begins = [first_cutoff(count, **lengths) for count in ends]
    index = index_windows(panel, begins, ends, horizon=config.horizon)
    index = drop_empty(panel, index, **lengths)
    whole = panel.starts.diff().tolist()
    held_out = index_windows(panel, ends, whole, horizon=config.horizon)
    held_out = drop_empty(panel, held_out, **lengths)
    if not len(index.cutoffs):
        raise DataError(
            f"no window to train on: the longest series has {max(ends)} rows to train on, and "
            f"horizon={config.horizon} needs at least {config.horizon + 1} with values"
        )
    return index, held_out


def fit_forecast_network(
    settings: ForecastSettings,
    preprocess: Preprocess,
    panel: Panel,
    train_rows: IntArray,
    seed: int,
) -> Trained:
    """Build a network and train it.

    Parameters
    ----------
    settings
        Of a forecaster.
    preprocess
        Scales, codes and cycles of the panel.
    panel
        All rows.
    train_rows
        How many rows of each series are trained on; those after them choose the epoch.
    seed
        Of everything random.

    Raises
    ------
    DataError
        If there is no window to train on.
    """
    index, held_out = split_windows(
        forecast_network_config(settings, preprocess), panel, train_rows
    )
    network = _new_network(settings, preprocess, len(index.cutoffs), seed)
    idle = _solve_start(network, preprocess, panel, index, held_out)
    if idle:
        # Without the idle cycles the network has other sizes: build it anew, keep the solution.
        preprocess, panel = without_cycles(preprocess, panel, idle)
        solved, network = network, _new_network(settings, preprocess, len(index.cutoffs), seed)
        take_start(network, solved)
    validation = even_batches(panel, held_out, network) if len(held_out.cutoffs) else None
    batches = training_batches(panel, index, network, settings.batch_size, seed)
    history = train(
        network,
        training_terms,
        batches,
        validation=validation,
        validation_loss=summed_forecast_loss,
        settings=TrainSettings(
            max_epochs=settings.max_epochs,
            learning_rate=settings.learning_rate,
            patience=_PATIENCE,
            average_weights=True,
            device=settings.device,
        ),
        seed=seed,
    )
    if validation is not None:
        shrink_backbone(network, validation)
    network.settle_unknown()
    return Trained(network, preprocess, panel, history, held_out)


def _new_network(
    settings: ForecastSettings, preprocess: Preprocess, windows: int, seed: int
) -> ForecastNetwork:
    """Return an untrained network."""
    config = forecast_network_config(settings, preprocess)
    with seeded(seed):
        return ForecastNetwork(replace(config, token_dropout=token_dropout(windows)))


def _solve_start(
    network: ForecastNetwork,
    preprocess: Preprocess,
    panel: Panel,
    index: WindowIndex,
    held_out: WindowIndex,
) -> list[int]:
    """Solve the linear parts in closed form, and return the cycles that are of no use."""
    if not len(held_out.cutoffs):
        return []
    batches = even_batches(panel, index, network, TRAIN_WINDOWS)
    validation = even_batches(panel, held_out, network)
    solve_start(network, batches, validation)
    return idle_cycles(network, batches, validation, len(preprocess.cycles))


def token_dropout(windows: int) -> float:
    """Return the share of its tokens that a training window drops.

    It is the share of the windows that an epoch reads: few windows, read again and again, should
    look different each time, and of very many none is read often.
    """
    return min(TOKEN_DROPOUT, TRAIN_WINDOWS / max(1, windows))


def training_batches(
    panel: Panel, index: WindowIndex, network: ForecastNetwork, batch_size: int, seed: int
) -> WindowBatches:
    """Return shuffled batches of the windows to train on."""
    count = min(len(index.cutoffs), TRAIN_WINDOWS)
    return WindowBatches(
        panel,
        index,
        context_length=network.config.context_length,
        horizon=network.config.horizon,
        batch_size=min(batch_size * world().size, max(SMALLEST_BATCH, count // BATCHES_PER_EPOCH)),
        per_epoch=TRAIN_WINDOWS,
        seed=seed,
    )


def even_batches(
    panel: Panel,
    index: WindowIndex,
    network: ForecastNetwork,
    per_epoch: int = VALIDATION_WINDOWS,
) -> WindowBatches:
    """Return batches of windows in their order, evenly spread if there are more than an epoch's."""
    return WindowBatches(
        panel,
        index,
        context_length=network.config.context_length,
        horizon=network.config.horizon,
        batch_size=FORECAST_BATCH,
        per_epoch=per_epoch,
    )
