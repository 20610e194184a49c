"""Attribution of a forecast: what attention fell on, what the memory changed, and its surprise.

Everything comes from the forward pass itself: hooks record the inputs of each layer, and the
layers' own parameters give the rest. The forecast is the same with and without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from titans_seq.forecasting.network.network import Forecast, ForecastNetwork, Windows
from titans_seq.forecasting.ptf.recording import (
    ActivationRecord,
    AttentionWeights,
    record_activations,
    without_write,
)
from titans_seq.nn.packing import Packed, unpack

ATTENTION_PARTS = ("history", "horizon", "memory", "persistent")
"""Groups of keys of the attention: tokens of the look-back and of the horizon, what the memory
recalled for them (``mac``), and the learned persistent tokens."""


class Attribution(NamedTuple):
    """Attribution of each step of the horizon; the last column is the latest row.

    ``patch_length`` rows make one token; the value of a token is shared among its rows. Where a
    variant has no attention, or no memory, there are 0 columns.
    """

    attention: Float[Tensor, "batch horizon context"]
    """Share of the attention that fell on each row of the look-back, a mean over heads and
    layers."""

    parts: Float[Tensor, "batch horizon parts"]
    """Share of the attention that fell on each of :data:`ATTENTION_PARTS`; they add up to 1."""

    memory: Float[Tensor, "batch horizon context"]
    """Change of the outputs of the step, on the normalised scale of the target, if the memories
    do not write the row's token; shared among its rows."""

    surprise: Float[Tensor, "batch context"]
    """Inner loss of the row's token before the memory wrote it, a mean over heads and layers;
    NaN where the window has no row."""


@torch.no_grad()
def attribute(
    network: ForecastNetwork, windows: Windows, outputs: Callable[[Forecast], Tensor]
) -> Attribution:
    """Return the attribution of a batch of forecasts.

    Takes one more forward pass for each token of the look-back, for the memory's part.

    Parameters
    ----------
    outputs
        Selects the outputs whose change is measured, (batch, horizon, outputs).
    """
    training = network.training
    network.eval()
    try:
        with record_activations(network.backbone) as record:
            expected = outputs(network(windows))
        changes = []
        for token in range(network.past_tokens if record.written else 0):
            with without_write(record, token):
                changes.append((outputs(network(windows)) - expected).abs().mean(dim=-1))
        losses = [record.surprise(memory) for memory in record.written]
    finally:
        network.train(training)
    patches = _Patches(network, windows.seen)
    empty = expected.new_zeros(*expected.shape[:2], 0)
    attention, parts, memory, surprise = empty, empty, empty, empty[:, 0]
    if record.weights:
        on_tokens, on_parts = _attention_shares(record, network.past_tokens)
        attention = patches.share_among_rows(patches.of_horizon(on_tokens))
        parts = patches.of_horizon(on_parts)
    if losses:
        memory = patches.share_among_rows(torch.stack(changes, dim=-1))
        surprise = patches.of_rows(torch.stack(losses).mean(0)[:, : network.past_tokens])
    return Attribution(attention, parts, memory, surprise)


def _attention_shares(record: ActivationRecord, past: int) -> tuple[Tensor, Tensor]:
    """Return each query's attention on the tokens of the look-back, and on the parts."""
    packed, time = record.packed, record.mask.shape[1]
    layers = [_unpacked(weights, packed, time) for weights in record.weights]
    on_tokens, on_others = (torch.stack(shares).mean(0) for shares in zip(*layers, strict=True))
    on_past, on_future = on_tokens[..., :past], on_tokens[..., past:]
    history, horizon = on_past.sum(-1, keepdim=True), on_future.sum(-1, keepdim=True)
    return on_past, torch.cat([history, horizon, on_others], dim=-1)


def _unpacked(weights: AttentionWeights, packed: Packed, time: int) -> tuple[Tensor, Tensor]:
    """Return means over heads at the tokens' original positions.

    Shapes
    ------
    on tokens  (batch, time, time)
    on others  (batch, time, 2): recalled context and persistent tokens
    """
    # Unpack the keys first, then the queries.
    on_tokens = unpack(weights.tokens.mean(1), packed, time).transpose(1, 2)
    others = torch.stack([weights.context.sum(-1), weights.persistent.sum(-1)], dim=-1).mean(1)
    return unpack(on_tokens, packed, time).transpose(1, 2), unpack(others, packed, time)


class _Patches:
    """Maps between tokens and the rows that they are patches of."""

    def __init__(self, network: ForecastNetwork, seen: Bool[Tensor, "batch context"]) -> None:
        config, device = network.config, seen.device
        # The first patch may be incomplete: the look-back is padded in front.
        padding = network.past_tokens * config.patch_length - config.context_length
        self.seen = seen
        self.past: Int[Tensor, " context"] = (
            torch.arange(config.context_length, device=device) + padding
        ) // config.patch_length
        ahead = torch.arange(config.horizon, device=device) // network.read_future.patch_length
        self.ahead: Int[Tensor, " horizon"] = network.past_tokens + ahead
        counts = torch.zeros(len(seen), network.past_tokens, device=device)
        counts.index_add_(1, self.past, seen.to(counts.dtype))
        self.share = seen / counts.clamp(min=1)[:, self.past]

    def of_horizon(self, tokens: Float[Tensor, "batch tokens any"]) -> Tensor:
        """Return the values of the token of each step of the horizon."""
        return tokens[:, self.ahead]

    def share_among_rows(self, tokens: Float[Tensor, "batch horizon past"]) -> Tensor:
        """Divide the value of each token evenly among its observed rows."""
        return tokens[..., self.past] * self.share[:, None]

    def of_rows(self, tokens: Float[Tensor, "batch past"]) -> Tensor:
        """Return the value of each row's token, NaN where there is no row."""
        return tokens[:, self.past].masked_fill(~self.seen, torch.nan)
