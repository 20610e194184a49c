"""Windows over the rows of streams: what the network makes of them, what came, what is learnt."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from titans_seq.forecasting.network.network import ForecastNetwork, Windows
from titans_seq.forecasting.stream.association import QUIET, Pairs
from titans_seq.forecasting.stream.state import Rows, StreamState

NETWORK_BATCH = 1_024
"""Windows that the network forecasts at once."""

NETWORK_EVERY = 8
"""Rows from one look at the network's error to the next: it is dear, and changes slowly."""

LEAST_SEEN = 0.25
"""Share of a look-back that must have been seen for its forecast to count."""


def known_pairs(whole: Rows, count: int, horizon: int) -> tuple[Pairs, Tensor, Tensor]:
    """Return what the association writes and asks after each of the last ``count`` rows.

    Parameters
    ----------
    whole
        The rows of a state, then these.
    count
        How many they are.
    horizon
        Rows ahead that are forecast.

    Returns
    -------
    pairs
        What followed a look-back is told as its departure from the look-back's mean.
    known
        (series, rows) where the look-back was seen, and something of what followed.
    scale
        (series, rows, 1) the look-backs' deviations.
    """
    context = whole.value.shape[1] - count - horizon
    keys, held, scale = look_backs(whole, context, slice(1, 1 + count))
    queries, _, _ = look_backs(whole, context, slice(1 + horizon, 1 + horizon + count))
    came, target = followed(whole, count, horizon)
    known = whole.real[:, -count:] & came.any(-1) & (held >= max(1, LEAST_SEEN * context))
    departure = torch.where(came, target - keys.mean(-1, keepdim=True), 0.0)
    return Pairs(queries, keys, departure / scale, known & came.all(-1)), known, scale


def followed(whole: Rows, count: int, horizon: int) -> tuple[Tensor, Tensor]:
    """Return the last ``horizon`` rows after each of the last ``count``: seen, and their values."""
    seen = whole.seen.unfold(1, horizon, 1)[:, -count:]
    return seen, whole.value.unfold(1, horizon, 1)[:, -count:]


def network_errors(
    network: ForecastNetwork, state: StreamState, whole: Rows, count: int
) -> tuple[Float[Tensor, "series rows"], Bool[Tensor, "series rows"]]:
    """Return the error of the network's forecast of ``horizon`` rows ago, every few rows.

    Which rows depends on how many a series has read, so any split of them gives the same.
    """
    horizon = network.config.horizon
    read = torch.from_numpy(state.count)[:, None] + 1 + torch.arange(count)
    due = (read % NETWORK_EVERY == 0) & whole.real[:, -count:]
    errors = torch.zeros(due.shape)
    rows = torch.nonzero(due.any(0)).flatten()
    if len(rows):
        places = 1 + rows[:, None] + torch.arange(whole.value.shape[1] - count)
        came, target = (one[:, rows] for one in followed(whole, count, horizon))
        missed = network_forecasts(network, state, whole, places) - target
        errors[:, rows] = mean_where(missed.square(), came)
    return errors, due


def mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean over the last axis of the values that are chosen."""
    mean: Tensor = (values * chosen).sum(-1) / chosen.sum(-1).clamp(min=1)
    return mean


def look_backs(
    rows: Rows, context: int, which: slice
) -> tuple[
    Float[Tensor, "series windows context"],
    Int[Tensor, "series windows"],
    Float[Tensor, "series windows 1"],
]:
    """Return look-backs with missing values at their mean, rows seen in each, and deviation.

    Parameters
    ----------
    rows
        Rows of several series.
    context
        Rows of a look-back.
    which
        Look-backs, by the places of their first rows.
    """
    value = rows.value.unfold(1, context, 1)[:, which]
    seen = rows.seen.unfold(1, context, 1)[:, which]
    held = seen.sum(-1)
    mean = (value * seen).sum(-1, keepdim=True) / held[..., None].clamp(min=1)
    filled = torch.where(seen, value, mean)
    scale = (filled.var(-1, unbiased=False, keepdim=True) + QUIET).sqrt()
    return filled, held, scale


def network_forecasts(
    network: ForecastNetwork,
    state: StreamState,
    whole: Rows,
    places: Int[Tensor, "windows rows"],
) -> Float[Tensor, "series windows horizon"]:
    """Return the network's forecasts of the same windows of every series."""
    series = len(state.static)
    forecasts = []
    for part in places.split(max(1, NETWORK_BATCH // series)):
        window = Rows(*(one[:, part].flatten(0, 1) for one in whole))
        static, codes = (
            one.repeat_interleave(len(part), 0) for one in (state.static, state.static_codes)
        )
        point = window_forecasts(network, window, static, codes)
        forecasts.append(point.unflatten(0, (series, len(part))))
    return torch.cat(forecasts, dim=1)


def window_forecasts(
    network: ForecastNetwork, window: Rows, static: Tensor, static_codes: Tensor
) -> Float[Tensor, "windows horizon"]:
    """Return what the network makes of windows, look-back and horizon in one."""
    context = network.config.context_length
    windows = Windows(
        history=window.value[:, :context],
        seen=window.seen[:, :context],
        past=window.past[:, :context],
        past_codes=window.past_codes[:, :context],
        future=window.future,
        future_codes=window.future_codes,
        static=static,
        static_codes=static_codes,
    )
    device = next(network.parameters()).device
    point: Tensor = network(Windows(*(one.to(device) for one in windows))).point.cpu()
    return point
