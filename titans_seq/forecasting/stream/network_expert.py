"""The window's network as an expert: its forecasts of windows of stream rows, and their errors."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from titans_seq.forecasting.network.network import ForecastNetwork, Windows
from titans_seq.forecasting.stream.rows import StreamRows
from titans_seq.forecasting.stream.state import StreamState

NETWORK_BATCH = 1_024
"""Windows in one forward pass of the network."""

NETWORK_EVERY = 8
"""Rows between two measurements of the network's error: it is expensive, and changes slowly."""


def network_errors(
    network: ForecastNetwork, state: StreamState, rows: StreamRows, count: int
) -> tuple[Float[Tensor, "series rows"], Bool[Tensor, "series rows"]]:
    """Return squared errors of the forecasts of ``horizon`` rows ago, and where they are known.

    They are measured every few rows; which ones depends on how many rows a series has read, so
    that any split of the rows gives the same.

    Parameters
    ----------
    rows
        The rows of the state, then ``count`` new ones.
    """
    horizon = network.config.horizon
    read_rows = torch.from_numpy(state.count)[:, None] + 1 + torch.arange(count)
    due = (read_rows % NETWORK_EVERY == 0) & rows.real[:, -count:]
    errors = torch.zeros(due.shape)
    due_rows = torch.nonzero(due.any(0)).flatten()
    if len(due_rows):
        # The window that ends with new row r begins at r + 1: look-back, then horizon.
        index = 1 + due_rows[:, None] + torch.arange(rows.value.shape[1] - count)
        seen, target = (field[:, due_rows] for field in rows.horizons(count, horizon))
        error = network_forecasts(network, state, rows, index) - target
        errors[:, due_rows] = observed_mean(error.square(), seen)
    return errors, due


def network_forecasts(
    network: ForecastNetwork,
    state: StreamState,
    rows: StreamRows,
    index: Int[Tensor, "windows window_rows"],
) -> Float[Tensor, "series windows horizon"]:
    """Return the network's forecasts of windows, given by row indices that all series share."""
    series = len(state.static)
    forecasts = []
    for batch in index.split(max(1, NETWORK_BATCH // series)):
        # (series, windows, window rows, ...) to (series * windows, window rows, ...)
        windows = StreamRows(*(field[:, batch].flatten(0, 1) for field in rows))
        static, codes = (
            field.repeat_interleave(len(batch), 0) for field in (state.static, state.static_codes)
        )
        point = window_forecasts(network, windows, static, codes)
        forecasts.append(point.unflatten(0, (series, len(batch))))
    return torch.cat(forecasts, dim=1)


def window_forecasts(
    network: ForecastNetwork, rows: StreamRows, static: Tensor, static_codes: Tensor
) -> Float[Tensor, "windows horizon"]:
    """Return the network's point forecasts of windows; ``rows`` are look-back, then horizon."""
    context = network.config.context_length
    windows = Windows(
        history=rows.value[:, :context],
        seen=rows.seen[:, :context],
        past=rows.past[:, :context],
        past_codes=rows.past_codes[:, :context],
        future=rows.future,
        future_codes=rows.future_codes,
        static=static,
        static_codes=static_codes,
    )
    device = next(network.parameters()).device
    point: Tensor = network(Windows(*(field.to(device) for field in windows))).point.cpu()
    return point


def observed_mean(values: Tensor, seen: Tensor) -> Tensor:
    """Return the mean over the last axis of the observed values; 0 if there are none."""
    mean: Tensor = (values * seen).sum(-1) / seen.sum(-1).clamp(min=1)
    return mean
