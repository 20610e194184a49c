"""MAC: memory as context, segment by segment (arXiv 2501.00663, equations 21 to 25)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from titans_seq.config import TitansConfig
from titans_seq.nn.attention import HeadProjections
from titans_seq.nn.mixers import PersistentTokens, memory_from
from titans_seq.nn.norms import RMSNorm
from titans_seq.nn.packing import (
    Grid,
    Position,
    advance,
    from_grid,
    grid,
    pack,
    to_grid,
    unpack,
)
from titans_seq.nn.state import MemoryState, SegmentState, State
from titans_seq.nn.state_checks import (
    check_kind,
    check_position,
    check_same_position,
    check_tensors,
)
from titans_seq.ops.attention.rotary import Turns, prefix_keys, turn, turns_between
from titans_seq.ops.attention.sliding import segment_attention
from titans_seq.ops.general.chunks import segment_sizes


class Piece(NamedTuple):
    """The part of one segment that is here: all of it that does not depend on the memory."""

    tokens: Float[Tensor, "batch piece dim"]
    """What the block handed over, normalised."""

    asked: Float[Tensor, "batch heads piece head_dim"]
    """Queries to the memory."""

    queries: Float[Tensor, "batch heads piece head_dim"]
    keys: Float[Tensor, "batch heads piece head_dim"]
    """As ``queries``, rotated by their places in the segment."""

    values: Float[Tensor, "batch heads piece head_dim"]
    filled: Bool[Tensor, "batch piece"] | None
    """Which columns hold a token, if not all do."""

    slot: int
    """Place of the first column in the segment."""

    opens: bool | Bool[Tensor, "batch"]
    """Whether the segment begins here: in every row, in none, or in some."""

    leaves: bool
    """Whether the memory is wanted after it."""

    stays: bool
    """Whether the segment may go on in a later call, so that its slots are wanted."""


class Running(NamedTuple):
    """What goes from one segment to the next."""

    memory: MemoryState | None
    recalled_from: tuple[Tensor, ...]
    keys: Tensor | None
    """(batch, heads, 2, slots, head_dim) of context and tokens in the open segment; ``None``
    if nobody will ask."""

    values: Tensor | None


class RecallJoin(nn.Module):
    """What was recalled, gated by what was attended: both normalised with learned weights.

    The paper leaves open which of the two the non-linearity takes. Here it is the attention,
    and a sigmoid: what is recalled then keeps its signs whichever token asks. As a linear
    factor the attention, which differs from token to token, would flip them, and each pair
    of a token and an answer would have to be learnt by itself.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.attended = RMSNorm(dim)
        self.recalled = RMSNorm(dim)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(
        self, attended: Float[Tensor, "*rows dim"], recalled: Float[Tensor, "*rows dim"]
    ) -> Float[Tensor, "*rows dim"]:
        """Return the projected product."""
        joined: Tensor = self.out(self.attended(attended).sigmoid() * self.recalled(recalled))
        return joined


class ContextMixer(PersistentTokens):
    """Attend, inside a segment, to what the memory recalls for it; then write the result.

    For a segment S of normalised tokens::

        h = read(memory at the segment's start, query(S))      equation 21
        y = attention in the window [persistent, h, S]         equations 22 and 23
        z = norm(S + y)
        memory is written with z                               equation 24
        S + y + y (x) read(memory, z), after the write         equation 25

    Three things are ours. Taken literally a token would see what was recalled for later
    tokens of its segment; here it sees h only up to its own, so that the mixer is causal
    and streams token by token. Attention and memory each have a residual connection, as the
    paper asks of every block: the memory is written and asked with z, not with y alone (S
    itself is added by the block). An attention that has learnt nothing yet gives every
    token nearly the same mean, so a memory of y alone tells no token from another and
    learns no association at all; and y, of any scale, as a value to write makes the
    training diverge. Last, (x) is :class:`RecallJoin`, in which y gates what is recalled.
    """

    def __init__(self, config: TitansConfig) -> None:
        super().__init__(config.persistent_tokens, config.dim)
        self.segment_len = config.segment_len
        self.memory = memory_from(config)
        self.query = nn.Linear(config.dim, config.dim, bias=False)
        self.attention = HeadProjections(config.dim, config.heads)
        self.norm = RMSNorm(config.dim)
        self.write_norm = RMSNorm(config.dim)
        self.join = RecallJoin(config.dim)

    def forward(
        self,
        tokens: Float[Tensor, "batch time dim"],
        lengths: Int[Tensor, "batch"] | None,
        state: State | None,
        keep_state: bool = True,
    ) -> tuple[Tensor, SegmentState | None]:
        """Return the joined answers, and the state of memory and open segment."""
        assert state is None or isinstance(state, SegmentState)
        time = tokens.shape[1]
        position: Position = 0 if state is None else state.position
        prefix = self.attention.prefix(self.tokens)
        if prefix is not None:
            prefix = (prefix_keys(prefix[0]), prefix[1])
        table = self._turns(tokens)
        if state is not None and is_step(tokens, lengths, state):
            return read_one(self, tokens, state, prefix, table)
        running = Running(None, (), None, None)
        if state is not None:
            running = Running(state.memory, state.recalled_from, state.keys, state.values)
        places = grid(position, lengths, time, self.segment_len)
        answers, recalled = [], []
        for piece in self._pieces(to_grid(tokens, places, 1), places, table, keep_state):
            running, y, read = self._segment(piece, running, prefix, table)
            answers.append(y)
            recalled.append(read)
        attended = torch.cat(answers, dim=1)
        joined = attended + self.join(attended, torch.cat(recalled, dim=1))
        out = from_grid(joined, places, time, 1)
        if not keep_state:
            return out, None
        assert running.keys is not None
        assert running.values is not None
        keys = _filled_up(running.keys, self.segment_len)
        values = _filled_up(running.values, self.segment_len)
        after = advance(position, lengths, time)
        return out, SegmentState(running.memory, running.recalled_from, keys, values, after)

    def check_state(self, state: object, batch: int, name: str = "state") -> Position:
        """Refuse a state that this layer cannot read a batch with; return its position."""
        kept, memory = check_kind(state, SegmentState, name), self.memory
        read = memory.check_state(kept.memory, batch, f"{name}.memory")
        slots = (batch, memory.heads, 2, self.segment_len, memory.dim // memory.heads)
        shapes: dict[str, tuple[int, ...]] = {"keys": slots, "values": slots}
        for layer, start in enumerate(memory.start):
            shapes[f"recalled_from.{layer}"] = (memory.heads, batch, *start.shape[1:])
        fields = {"keys": kept.keys, "values": kept.values, "recalled_from": kept.recalled_from}
        check_tensors(fields, shapes, memory.start[0], name)
        position = check_position(kept.position, batch, name)
        check_same_position(f"{name}.memory", read, position, batch)
        return position

    def _turns(self, tokens: Tensor) -> Turns:
        """Return the rotations of every place of a segment."""
        width = self.query.out_features // self.attention.heads
        return turns_between(0, self.segment_len, width, tokens.dtype, tokens.device)

    def _pieces(
        self, columns: Float[Tensor, "batch columns dim"], places: Grid, table: Turns, keep: bool
    ) -> list[Piece]:
        """Compute for all segments at once what does not depend on the memory, and cut it."""
        width = columns.shape[1]
        sizes = segment_sizes(width, places.slot, self.segment_len)
        asked = self.query(columns).unflatten(-1, (self.attention.heads, -1)).transpose(1, 2)
        q, k, v = self.attention.split(columns)
        slots = torch.arange(places.slot, places.slot + width, device=q.device) % self.segment_len
        by = Turns(*(one[slots] for one in table))
        parts = (one.split(sizes, dim=2) for one in (asked, turn(q, by), turn(k, by), v))
        tokens = columns.split(sizes, dim=1)
        masks = _masks(places, sizes, columns.device)
        pieces: list[Piece] = []
        here = places.slot
        for size, mask, x, (a, q, k, v) in zip(
            sizes, masks, tokens, zip(*parts, strict=True), strict=True
        ):
            opens, slot = _opens(places, here), here % self.segment_len
            here += size
            last = here == places.slot + width
            pieces.append(Piece(x, a, q, k, v, mask, slot, opens, keep or not last, keep and last))
        return pieces

    def _segment(
        self,
        piece: Piece,
        before: Running,
        prefix: tuple[Tensor, Tensor] | None,
        table: Turns,
    ) -> tuple[Running, Tensor, Tensor]:
        """Read and write the part of one segment that is here."""
        slot, end = piece.slot, piece.slot + piece.queries.shape[2]
        recalled_from = self._recalled_from(before, piece)
        context = self.norm(self.memory.read(piece.asked, recalled_from))
        k, v = self.attention.keys_values(context)
        k = turn(k, Turns(*(one[slot:end] for one in table)))
        contexts, tokens = (k, v), (piece.keys, piece.values)
        keys = values = None
        if slot or piece.filled is not None or piece.stays:
            keys = _put(before.keys, torch.stack([k, piece.keys], dim=2), piece, self.segment_len)
            values = _put(
                before.values, torch.stack([v, piece.values], dim=2), piece, self.segment_len
            )
            contexts = (keys[:, :, 0, :end], values[:, :, 0, :end])
            tokens = (keys[:, :, 1, :end], values[:, :, 1, :end])
        y = self.attention.join(segment_attention(piece.queries, contexts, tokens, slot, prefix))
        packed = pack(self.write_norm(piece.tokens + y), piece.filled)
        recalled, memory, _ = self.memory.read_packed(
            packed.tokens, packed.lengths, before.memory, keep_state=piece.leaves
        )
        recalled = unpack(recalled, packed, y.shape[1])
        return Running(memory, recalled_from, keys, values), y, recalled

    def _recalled_from(self, before: Running, piece: Piece) -> tuple[Tensor, ...]:
        """Return the weights that the segment's context is read from: those at its start."""
        opens = piece.opens
        if not isinstance(opens, Tensor) and not opens:
            return before.recalled_from
        carry = None if before.memory is None else before.memory.carry
        now = self.memory.weights(carry, len(piece.queries))
        if not before.recalled_from:
            return now
        if piece.filled is not None:
            real = piece.filled.any(1)
            opens = real & opens.to(real.device) if isinstance(opens, Tensor) else real
        if not isinstance(opens, Tensor) or bool(opens.all()):
            return now
        chosen = opens.to(now[0].device).reshape(1, -1, 1, 1)
        return tuple(
            torch.where(chosen, one, other)
            for one, other in zip(now, before.recalled_from, strict=True)
        )


def _masks(places: Grid, sizes: list[int], device: torch.device) -> list[Tensor | None]:
    """Return which columns of each segment hold a token, if not all do."""
    if places.filled is None:
        return [None] * len(sizes)
    masks = places.filled.to(device).split(sizes, dim=1)
    return [None if bool(mask.all()) else mask for mask in masks]


def _opens(places: Grid, here: int) -> bool | Tensor:
    """Return which rows begin a segment at this column."""
    if here != places.slot:
        return True
    return here == 0 if places.first is None else places.first == 0


def _put(slots: Tensor | None, new: Tensor, piece: Piece, length: int) -> Tensor:
    """Return a segment's slots up to the new tokens, with theirs in their places.

    Where some columns are empty the other rows' slots stay, all ``length`` of them.
    """
    slot, end = piece.slot, piece.slot + new.shape[3]
    if piece.filled is None:
        return new if slots is None or not slot else torch.cat([slots[:, :, :, :slot], new], dim=3)
    if slots is None:
        slots = new[:, :, :, :0]
    slots = _filled_up(slots, length).to(new.dtype)
    chosen = piece.filled[:, None, None, :, None]
    new = torch.where(chosen, new, slots[:, :, :, slot:end])
    return torch.cat([slots[:, :, :, :slot], new, slots[:, :, :, end:]], dim=3)


def _filled_up(slots: Tensor, length: int) -> Tensor:
    """Return slots with zeros behind them up to ``length``."""
    return F.pad(slots, (0, 0, 0, length - slots.shape[3]))


def is_step(tokens: Tensor, lengths: Tensor | None, state: SegmentState | None) -> bool:
    """Return whether :func:`read_one` can answer a call."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or tokens.shape[1] != 1:
        return False
    return (
        lengths is None
        and state is not None
        and isinstance(state.position, int)
        and state.memory is not None
        and len(state.recalled_from) > 0
        and state.keys.dtype == tokens.dtype
        and not torch.is_autocast_enabled(tokens.device.type)
    )


def read_one(
    mixer: ContextMixer,
    tokens: Tensor,
    state: SegmentState,
    prefix: tuple[Tensor, Tensor] | None,
    table: Turns,
) -> tuple[Tensor, SegmentState]:
    """Read and write one token of every row, as the mixer's ``forward`` does in one segment.

    Parameters
    ----------
    tokens
        (batch, 1, dim)
    prefix
        Keys and values of the persistent tokens.
    table
        Rotations of every place of a segment.

    Returns
    -------
    outputs, state
        As the mixer returns them.
    """
    assert isinstance(state.position, int)
    slot = state.position % mixer.segment_len
    weights = state.recalled_from
    if not slot:
        assert state.memory is not None
        weights = mixer.memory.weights(state.memory.carry, len(tokens))
    asked = mixer.query(tokens).unflatten(-1, (mixer.attention.heads, -1)).transpose(1, 2)
    context = mixer.norm(mixer.memory.read(asked, weights))
    q, k, v = mixer.attention.split(tokens)
    of_context = mixer.attention.keys_values(context)
    here = Turns(*(one[slot : slot + 1] for one in table))
    turned = turn(torch.cat([q, of_context[0], k], dim=2), here)
    keys = _with_slot(state.keys, slot, turned[:, :, 1:])
    values = _with_slot(state.values, slot, torch.cat([of_context[1], v], dim=2))
    to = _seen(keys, slot + 1, prefix and prefix[0])
    holding = _seen(values, slot + 1, prefix and prefix[1])
    y = mixer.attention.join(F.scaled_dot_product_attention(turned[:, :, :1], to, holding))
    recalled, memory, _ = mixer.memory.read_packed(mixer.write_norm(tokens + y), None, state.memory)
    after = SegmentState(memory, weights, keys, values, state.position + 1)
    return y + mixer.join(y, recalled), after


def _with_slot(slots: Tensor, slot: int, new: Tensor) -> Tensor:
    """Return a copy of a segment's slots, empty where it begins, with one more filled."""
    slots = slots.clone() if slot else torch.zeros_like(slots)
    slots[:, :, :, slot] = new
    return slots


def _seen(slots: Tensor, end: int, prefix: Tensor | None) -> Tensor:
    """Return the keys, or values, of prefix, context and tokens so far."""
    parts = [slots[:, :, 0, :end], slots[:, :, 1, :end]]
    if prefix is not None:
        parts.insert(0, prefix.to(slots.dtype).expand(len(slots), -1, -1, -1))
    return torch.cat(parts, dim=2)
