"""Sliding-window attention as a layer, with learned tokens that every window sees."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from titans_seq.nn.convolution import last_rows
from titans_seq.nn.state import AttentionState
from titans_seq.ops.attention import sliding_attention


class HeadProjections(nn.Module):
    """Queries, keys and values of every head, and the way back.

    Persistent tokens (arXiv 2501.00663, equation 19) pass the same projections.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def split(self, tokens: Float[Tensor, "batch time dim"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, each (batch, heads, time, head_dim)."""
        q, k, v = rearrange(
            self.project(tokens), "b t (three h d) -> three b h t d", three=3, h=self.heads
        ).unbind(0)
        return q, k, v

    def prefix(self, persistent: Float[Tensor, "prefix dim"]) -> tuple[Tensor, Tensor] | None:
        """Return keys and values of the persistent tokens, each (heads, prefix, head_dim)."""
        if not len(persistent):
            return None
        _, k, v = self.split(persistent.unsqueeze(0))
        return k[0], v[0]

    def join(self, out: Float[Tensor, "batch heads time width"]) -> Float[Tensor, "batch time dim"]:
        """Return the heads' outputs, joined and projected."""
        joined: Tensor = self.out(rearrange(out, "b h t d -> b t (h d)"))
        return joined


class SlidingAttention(nn.Module):
    """Attend to the persistent tokens and the last ``window`` tokens, itself included.

    Parameters
    ----------
    dim, heads
        Width of a token, and the heads that share it.
    window
        Tokens seen; the carried state is bounded by it.
    """

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.heads = HeadProjections(dim, heads)

    def forward(
        self,
        tokens: Float[Tensor, "batch time dim"],
        persistent: Float[Tensor, "prefix dim"],
        lengths: Int[Tensor, "batch"] | None = None,
        state: AttentionState | None = None,
        *,
        keep_state: bool = True,
    ) -> tuple[Float[Tensor, "batch time dim"], AttentionState | None]:
        """Return what each token attends to, and the state to go on from.

        Parameters
        ----------
        tokens
            Rows packed to the left.
        persistent
            Tokens that every window sees.
        lengths
            Real tokens a row, if not all are.
        """
        q, k, v = self.heads.split(tokens)
        past = self.window - 1
        if state is None:
            empty = k.new_zeros(*k.shape[:2], past, k.shape[3])
            state = AttentionState(empty, empty, torch.zeros(len(tokens), dtype=torch.int64))
        keys, values = torch.cat([state.keys, k], dim=2), torch.cat([state.values, v], dim=2)
        valid, prefix = _valid(state.position, past), self.heads.prefix(persistent)
        out = sliding_attention(q, keys, values, self.window, valid, prefix)
        if not keep_state:
            return self.heads.join(out), None
        read = torch.full_like(state.position, tokens.shape[1]) if lengths is None else lengths
        after = AttentionState(
            _last(keys, past, lengths), _last(values, past, lengths), state.position + read
        )
        return self.heads.join(out), after


def _valid(position: Int[Tensor, "batch"], past: int) -> Tensor | int:
    """Return how many carried keys are real; one number if it is the same in every row."""
    valid = position.clamp(max=past)
    least = int(valid.min())
    return least if bool((valid == least).all()) else valid


def _last(padded: Tensor, count: int, lengths: Tensor | None) -> Tensor:
    """Return each row's last ``count`` real keys or values."""
    if lengths is None:
        return padded[:, :, padded.shape[2] - count :]
    heads = padded.shape[1]
    rows = rearrange(padded, "b h t d -> b t (h d)")
    return rearrange(last_rows(rows, count, lengths), "b t (h d) -> b h t d", h=heads)
