"""What attention and memory looked at for a forecast, and what surprised the memory.

Everything comes from the run itself: hooks note what enters each layer, and the layers' own
parameters give the rest. A forecast is the same with and without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from titans_seq.forecasting.network.network import Forecast, ForecastNetwork, Windows
from titans_seq.forecasting.ptf.record import Record, recording, unwritten
from titans_seq.forecasting.ptf.weights import Weights
from titans_seq.nn.packing import Packed, unpack

PARTS = ("history", "horizon", "memory", "persistent")
"""What attention can fall on: tokens of the look-back and of the horizon, what the memory
recalled for them (``mac``), and the learned tokens."""


class Look(NamedTuple):
    """What was looked at for each step of the horizon; the last column is the latest row.

    ``patch_length`` rows make one token; what falls on a token is shared by its rows. Where a
    variant has no attention, or no memory, there are 0 columns.
    """

    attention: Float[Tensor, "batch horizon context"]
    """Share of the attention that fell on each row of the look-back, a mean over heads and
    layers."""

    parts: Float[Tensor, "batch horizon parts"]
    """Share of the attention that fell on each of :data:`PARTS`; they add up to 1."""

    memory: Float[Tensor, "batch horizon context"]
    """How far the outputs of the step move, on the normalised scale of the target, if the
    memories do not write the row's token; its rows share the movement."""

    surprise: Float[Tensor, "batch context"]
    """Inner loss of the row's token before the memory wrote it, a mean over heads and layers;
    NaN where the window has no row."""


@torch.no_grad()
def look(network: ForecastNetwork, windows: Windows, outputs: Callable[[Forecast], Tensor]) -> Look:
    """Return what a network looks at in a batch of windows.

    Takes one more forward pass for each token of the look-back, for the memory's part.

    Parameters
    ----------
    outputs
        Picks the outputs whose movement counts, (batch, horizon, outputs).
    """
    training = network.training
    network.eval()
    try:
        with recording(network.backbone) as record:
            expected = outputs(network(windows))
        moved = _movements(network, windows, outputs, expected, record)
        losses = [record.surprise(memory) for memory in record.written]
    finally:
        network.train(training)
    rows = _Rows(network, windows.seen)
    none = expected.new_zeros(*expected.shape[:2], 0)
    attention, parts, memory, surprise = none, none, none, none[:, 0]
    if record.weights:
        on_tokens, parts = _shares(record, network.past_tokens)
        attention, parts = rows.spread(rows.steps(on_tokens)), rows.steps(parts)
    if losses:
        memory = rows.spread(torch.stack(moved, dim=-1))
        surprise = rows.of_tokens(torch.stack(losses).mean(0)[:, : network.past_tokens])
    return Look(attention, parts, memory, surprise)


def _movements(
    network: ForecastNetwork,
    windows: Windows,
    outputs: Callable[[Forecast], Tensor],
    expected: Float[Tensor, "batch horizon outputs"],
    record: Record,
) -> list[Float[Tensor, "batch horizon"]]:
    """Return how far the outputs move without the write of each token of the look-back."""
    moved = []
    for token in range(network.past_tokens if record.written else 0):
        with unwritten(record, token):
            moved.append((outputs(network(windows)) - expected).abs().mean(dim=-1))
    return moved


def _shares(record: Record, past: int) -> tuple[Tensor, Tensor]:
    """Return the attention of every token: on each token of the look-back, and on the parts."""
    packed, time = record.packed, record.mask.shape[1]
    layers = [_in_place(weights, packed, time) for weights in record.weights]
    tokens, others = (torch.stack(one).mean(0) for one in zip(*layers, strict=True))
    on_past, on_future = tokens[..., :past], tokens[..., past:]
    history, horizon = on_past.sum(-1, keepdim=True), on_future.sum(-1, keepdim=True)
    return on_past, torch.cat([history, horizon, others], dim=-1)


def _in_place(weights: Weights, packed: Packed, time: int) -> tuple[Tensor, Tensor]:
    """Return means over heads where the tokens stood: on tokens, on context and persistent."""
    on_tokens = unpack(weights.tokens.mean(1), packed, time).transpose(1, 2)
    others = torch.stack([weights.context.sum(-1), weights.persistent.sum(-1)], dim=-1).mean(1)
    return unpack(on_tokens, packed, time).transpose(1, 2), unpack(others, packed, time)


class _Rows:
    """Which rows make which token, of the look-back and of the horizon."""

    def __init__(self, network: ForecastNetwork, seen: Bool[Tensor, "batch context"]) -> None:
        config, device = network.config, seen.device
        missing = network.past_tokens * config.patch_length - config.context_length
        self.seen = seen
        self.past: Int[Tensor, " context"] = (
            torch.arange(config.context_length, device=device) + missing
        ) // config.patch_length
        ahead = torch.arange(config.horizon, device=device) // network.read_future.patch_length
        self.ahead: Int[Tensor, " horizon"] = network.past_tokens + ahead
        counts = torch.zeros(len(seen), network.past_tokens, device=device)
        counts.index_add_(1, self.past, seen.to(counts.dtype))
        self.share = seen / counts.clamp(min=1)[:, self.past]

    def steps(self, tokens: Float[Tensor, "batch tokens any"]) -> Tensor:
        """Give each step of the horizon what its token has."""
        return tokens[:, self.ahead]

    def spread(self, tokens: Float[Tensor, "batch horizon past"]) -> Tensor:
        """Share what a token has among its rows."""
        return tokens[..., self.past] * self.share[:, None]

    def of_tokens(self, tokens: Float[Tensor, "batch past"]) -> Tensor:
        """Give each row what its token has, NaN where there is no row."""
        return tokens[:, self.past].masked_fill(~self.seen, torch.nan)
