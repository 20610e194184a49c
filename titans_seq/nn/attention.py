"""Sliding-window attention as a layer, with learned tokens that every window sees."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from titans_seq.nn.convolution import last_rows
from titans_seq.nn.packing import Position, advance
from titans_seq.nn.state import AttentionState
from titans_seq.nn.state_checks import check_kind, check_position, check_tensors
from titans_seq.ops.attention.sliding import sliding_attention


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
        q, k, v = self._by_head(self.project(tokens), 3)
        return q, k, v

    def keys_values(self, tokens: Float[Tensor, "batch time dim"]) -> tuple[Tensor, Tensor]:
        """Return keys and values only, each (batch, heads, time, head_dim)."""
        dim = self.project.in_features
        # rows of the weight are queries, keys, values: skip the first dim
        k, v = self._by_head(F.linear(tokens, self.project.weight[dim:]), 2)
        return k, v

    def prefix(self, persistent: Float[Tensor, "prefix dim"]) -> tuple[Tensor, Tensor] | None:
        """Return keys and values of the persistent tokens, each (heads, prefix, head_dim)."""
        if not len(persistent):
            return None
        k, v = self.keys_values(persistent.unsqueeze(0))
        return k[0], v[0]

    def join(self, out: Float[Tensor, "batch heads time width"]) -> Float[Tensor, "batch time dim"]:
        """Return the heads' outputs, joined and projected."""
        joined: Tensor = self.out(out.transpose(1, 2).flatten(2))
        return joined

    def _by_head(self, joined: Tensor, count: int) -> tuple[Tensor, ...]:
        """Split a projection into ``count`` views, each (batch, heads, time, head_dim)."""
        projections = joined.unflatten(-1, (count, self.heads, -1)).unbind(2)
        return tuple(projection.transpose(1, 2) for projection in projections)


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
        position: Position = 0 if state is None else state.position
        before = None if state is None else (state.keys, state.values)
        prefix = self.heads.prefix(persistent)
        out = sliding_attention(q, k, v, self.window, before, _valid(position, past), prefix)
        if not keep_state:
            return self.heads.join(out), None
        keys, values = before or (None, None)
        after = AttentionState(
            _last(keys, k, past, lengths),
            _last(values, v, past, lengths),
            advance(position, lengths, tokens.shape[1]),
        )
        return self.heads.join(out), after

    def check_state(self, state: object, batch: int, name: str = "state") -> Position:
        """Refuse a state that this layer cannot read a batch with; return its position.

        Raises
        ------
        DataError
            If it is of another kind, size, floating type or device.
        """
        kept = check_kind(state, AttentionState, name)
        weight = self.heads.out.weight
        shape = (batch, self.heads.heads, self.window - 1, len(weight) // self.heads.heads)
        fields = {"keys": kept.keys, "values": kept.values}
        check_tensors(fields, {"keys": shape, "values": shape}, weight, name)
        return check_position(kept.position, batch, name)


def _valid(position: Position, past: int) -> Tensor | int:
    """Return how many carried keys are real; one number if it is the same in every row."""
    if isinstance(position, int):
        return min(position, past)
    valid = position.clamp(max=past)
    # one number for all rows spares the attention a mask a row
    least = int(valid.min())
    return least if bool((valid == least).all()) else valid


def _last(old: Tensor | None, new: Tensor, count: int, lengths: Tensor | None) -> Tensor:
    """Return a copy of each row's last ``count`` real keys or values; zeros where none were."""
    batch, heads, time, width = new.shape
    # cloned: a view would keep the whole call's keys alive in the state
    if lengths is None and time >= count:
        return new[:, :, time - count :].clone()
    if old is None:
        old = new.new_zeros(batch, heads, count, width)
    if lengths is None:
        return torch.cat([old[:, :, time:].to(new.dtype), new], dim=2)
    padded = torch.cat([old.to(new.dtype), new], dim=2)
    # `last_rows` gathers along axis 1: time first, heads merged into the width
    rows = rearrange(padded, "b h t d -> b t (h d)")
    return rearrange(last_rows(rows, count, lengths), "b t (h d) -> b h t d", h=heads)
