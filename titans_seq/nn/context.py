"""MAC: memory as context, segment by segment (arXiv 2501.00663, equations 21 to 25)."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from titans_seq.config import TitansConfig
from titans_seq.nn.attention import HeadProjections
from titans_seq.nn.mixers import GatedJoin, PersistentTokens, memory_from
from titans_seq.nn.packing import Grid, from_grid, grid, pack, to_grid, unpack
from titans_seq.nn.state import SegmentState, State
from titans_seq.ops.attention import segment_attention
from titans_seq.ops.chunks import segment_sizes


class ContextMixer(PersistentTokens):
    """Attend, inside a segment, to what the memory recalls for it; then write the result.

    For a segment S: ``h = read(memory at the segment's start, query(S))``; attention in the
    window [persistent, h, S] gives y; the memory is written with y; the answer is
    ``y (x) read(memory, y)`` after the write, (x) as in MAG. Taken literally a token would
    see what was recalled for later tokens of its segment; here it sees h only up to its own,
    so that the mixer is causal and streams token by token.
    """

    def __init__(self, config: TitansConfig) -> None:
        super().__init__(config.persistent_tokens, config.dim)
        self.segment_len = config.segment_len
        self.memory = memory_from(config)
        self.query = nn.Linear(config.dim, config.dim, bias=False)
        self.attention = HeadProjections(config.dim, config.heads)
        self.norm = nn.RMSNorm(config.dim)
        self.join = GatedJoin(config.dim)

    def forward(
        self,
        tokens: Float[Tensor, "batch time dim"],
        lengths: Int[Tensor, "batch"] | None,
        state: State | None,
        keep_state: bool = True,
    ) -> tuple[Tensor, SegmentState | None]:
        """Return the joined answers, and the state of memory and open segment."""
        assert state is None or isinstance(state, SegmentState)
        state = state or self._first_state(tokens)
        batch, time, _ = tokens.shape
        places = grid(state.position, lengths, time, self.segment_len)
        columns = to_grid(tokens, places, 1)
        read = torch.full_like(state.position, time) if lengths is None else lengths
        position = state.position + read
        prefix = self.attention.prefix(self.tokens)
        outputs = []
        here, width = places.slot, columns.shape[1]
        sizes = segment_sizes(width, places.slot, self.segment_len)
        for piece, filled in _pieces(columns, places, sizes):
            slot = here % self.segment_len
            opens = _opens(places, here, batch)
            here += piece.shape[1]
            leaves = keep_state or here < places.slot + width
            state, output = self._segment(piece, filled, slot, opens, state, prefix, leaves)
            outputs.append(output)
        out = from_grid(torch.cat(outputs, dim=1), places, time, 1)
        if not keep_state:
            return out, None
        return out, SegmentState(
            state.memory, state.recalled_from, state.keys, state.values, position
        )

    def _segment(
        self,
        piece: Float[Tensor, "batch piece dim"],
        filled: Bool[Tensor, "batch piece"] | None,
        slot: int,
        opens: Tensor | None,
        state: SegmentState,
        prefix: tuple[Tensor, Tensor] | None,
        leaves: bool,
    ) -> tuple[SegmentState, Tensor]:
        """Read and write the part of one segment that is here."""
        recalled_from = self._recalled_from(state, opens, filled)
        queries = rearrange(self.query(piece), "b t (h d) -> b h t d", h=self.attention.heads)
        context = self.norm(self.memory.read(queries, recalled_from))
        q, k, v = self.attention.split(piece)
        _, context_k, context_v = self.attention.split(context)
        keys = _put(state.keys, torch.stack([context_k, k], dim=2), slot, filled)
        values = _put(state.values, torch.stack([context_v, v], dim=2), slot, filled)
        end = slot + piece.shape[1]
        out = segment_attention(
            q, keys[:, :, 0, :end], values[:, :, 0, :end], keys[:, :, 1, :end],
            values[:, :, 1, :end], slot, prefix,
        )  # fmt: skip
        y = self.attention.join(out)
        packed = pack(y, filled)
        recalled, memory, _ = self.memory.read_packed(
            packed.tokens, packed.lengths, state.memory, keep_state=leaves
        )
        recalled = unpack(recalled, packed, y.shape[1])
        after = SegmentState(memory, recalled_from, keys, values, state.position)
        return after, self.join(y, recalled)

    def _recalled_from(
        self, state: SegmentState, opens: Tensor | None, filled: Tensor | None
    ) -> tuple[Tensor, ...]:
        """Return the weights that the segment's context is read from: those at its start."""
        if opens is not None and not bool(opens.any()):
            return state.recalled_from
        carry = None if state.memory is None else state.memory.carry
        now = self.memory.weights(carry, len(state.position))
        if filled is not None:
            active = filled.any(1).cpu()
            opens = active if opens is None else opens & active
        if opens is None or bool(opens.all()):
            return now
        chosen = opens.to(now[0].device).reshape(1, -1, 1, 1)
        return tuple(
            torch.where(chosen, one, other)
            for one, other in zip(now, state.recalled_from, strict=True)
        )

    def _first_state(self, tokens: Tensor) -> SegmentState:
        """Return the state of rows that have read nothing."""
        batch, _, dim = tokens.shape
        heads = self.attention.heads
        empty = tokens.new_zeros(batch, heads, 2, self.segment_len, dim // heads)
        position = torch.zeros(batch, dtype=torch.int64)
        return SegmentState(None, self.memory.weights(None, batch), empty, empty, position)


def _pieces(columns: Tensor, places: Grid, sizes: list[int]) -> list[tuple[Tensor, Tensor | None]]:
    """Cut the columns into segments; say which of them hold a token, if not all do."""
    cut = columns.split(sizes, dim=1)
    if places.filled is None:
        return [(piece, None) for piece in cut]
    masks = places.filled.to(columns.device).split(sizes, dim=1)
    return [
        (piece, None if bool(mask.all()) else mask) for piece, mask in zip(cut, masks, strict=True)
    ]


def _opens(places: Grid, here: int, batch: int) -> Tensor | None:
    """Return which rows begin a segment at this column; ``None`` for all."""
    if here != places.slot:
        return None
    if places.first is None:
        return None if here == 0 else torch.zeros(batch, dtype=torch.bool)
    return places.first == 0


def _put(slots: Tensor, new: Tensor, slot: int, filled: Tensor | None) -> Tensor:
    """Return a segment's slots with the new tokens' in their places."""
    end = slot + new.shape[3]
    if filled is not None:
        old = slots[:, :, :, slot:end]
        new = torch.where(filled[:, None, None, :, None], new, old)
    return torch.cat([slots[:, :, :, :slot], new, slots[:, :, :, end:]], dim=3)
