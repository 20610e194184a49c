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
    """The columns of one segment in this call, with all that does not depend on the memory."""

    tokens: Float[Tensor, "batch piece dim"]
    """The mixer's normalised input."""

    asked: Float[Tensor, "batch heads piece head_dim"]
    """Queries to the memory."""

    queries: Float[Tensor, "batch heads piece head_dim"]
    keys: Float[Tensor, "batch heads piece head_dim"]
    """Like ``queries``, rotated by the slot in the segment."""

    values: Float[Tensor, "batch heads piece head_dim"]
    filled: Bool[Tensor, "batch piece"] | None
    """Which columns hold a token, if not all do."""

    slot: int
    """Place of the first column in the segment."""

    opens: bool | Bool[Tensor, "batch"]
    """Whether the segment begins here: in every row, in none, or in some."""

    leaves: bool
    """Whether the memory's state after the segment is needed."""

    stays: bool
    """Whether a later call may continue the segment, so that its slots must be kept."""


class Running(NamedTuple):
    """The state passed from one segment to the next."""

    memory: MemoryState | None
    recalled_from: tuple[Tensor, ...]
    keys: Tensor | None
    """(batch, heads, 2, slots, head_dim) of context and tokens in the open segment; ``None``
    if no later call needs them."""

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
        # decoding: a single token needs neither grid nor segments
        if state is not None and is_step(tokens, lengths, state):
            return read_one(self, tokens, state, prefix, table)
        running = Running(None, (), None, None)
        if state is not None:
            running = Running(state.memory, state.recalled_from, state.keys, state.values)
        # after this step a column is the same slot of a segment in every row
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
        """Project all columns at once, since projections need no memory, and split by segment."""
        width = columns.shape[1]
        sizes = segment_sizes(width, places.slot, self.segment_len)
        # (batch, columns, dim) -> (batch, heads, columns, head_dim)
        asked = self.query(columns).unflatten(-1, (self.attention.heads, -1)).transpose(1, 2)
        q, k, v = self.attention.split(columns)
        # rotations restart at every segment: the slot, not the position, sets the angle
        slots = torch.arange(places.slot, places.slot + width, device=q.device) % self.segment_len
        by = Turns(*(factor[slots] for factor in table))
        by_segment = (x.split(sizes, dim=2) for x in (asked, turn(q, by), turn(k, by), v))
        tokens = columns.split(sizes, dim=1)
        masks = _masks(places, sizes, columns.device)
        pieces: list[Piece] = []
        column = places.slot
        for size, mask, x, (a, q, k, v) in zip(
            sizes, masks, tokens, zip(*by_segment, strict=True), strict=True
        ):
            opens, slot = _opens(places, column), column % self.segment_len
            column += size
            last = column == places.slot + width
            # the last segment's memory and slots are needed only by a later call
            pieces.append(Piece(x, a, q, k, v, mask, slot, opens, keep or not last, keep and last))
        return pieces

    def _segment(
        self,
        piece: Piece,
        before: Running,
        prefix: tuple[Tensor, Tensor] | None,
        table: Turns,
    ) -> tuple[Running, Tensor, Tensor]:
        """Read and write the columns of one segment in this call."""
        slot, end = piece.slot, piece.slot + piece.queries.shape[2]
        recalled_from = self._recalled_from(before, piece)
        # equation 21: read from the weights at the segment's start, whatever was written since
        context = self.norm(self.memory.read(piece.asked, recalled_from))
        k, v = self.attention.keys_values(context)
        k = turn(k, Turns(*(factor[slot:end] for factor in table)))
        contexts, tokens = (k, v), (piece.keys, piece.values)
        keys = values = None
        # a whole segment within one call attends to its own keys without the slots' buffer
        if slot or piece.filled is not None or piece.stays:
            # axis 2: context (0), tokens (1)
            keys = _put(before.keys, torch.stack([k, piece.keys], dim=2), piece, self.segment_len)
            values = _put(
                before.values, torch.stack([v, piece.values], dim=2), piece, self.segment_len
            )
            contexts = (keys[:, :, 0, :end], values[:, :, 0, :end])
            tokens = (keys[:, :, 1, :end], values[:, :, 1, :end])
        y = self.attention.join(segment_attention(piece.queries, contexts, tokens, slot, prefix))
        # equations 24 and 25; the memory takes packed rows, the grid may have gaps
        packed = pack(self.write_norm(piece.tokens + y), piece.filled)
        recalled, memory, _ = self.memory.read_packed(
            packed.tokens, packed.lengths, before.memory, keep_state=piece.leaves
        )
        recalled = unpack(recalled, packed, y.shape[1])
        return Running(memory, recalled_from, keys, values), y, recalled

    def _recalled_from(self, before: Running, piece: Piece) -> tuple[Tensor, ...]:
        """Return the memory's weights at the segment's start, which its context is read from."""
        opens = piece.opens
        if not isinstance(opens, Tensor) and not opens:
            return before.recalled_from
        carry = None if before.memory is None else before.memory.carry
        now = self.memory.weights(carry, len(piece.queries))
        if not before.recalled_from:
            return now
        if piece.filled is not None:
            # a row without a token in this segment does not open it and keeps its weights
            real = piece.filled.any(1)
            opens = real & opens.to(real.device) if isinstance(opens, Tensor) else real
        if not isinstance(opens, Tensor) or bool(opens.all()):
            return now
        # weights are (heads, batch, inner, outer): select along the batch axis
        chosen = opens.to(now[0].device).reshape(1, -1, 1, 1)
        return tuple(
            torch.where(chosen, opening, carried)
            for opening, carried in zip(now, before.recalled_from, strict=True)
        )


def _masks(places: Grid, sizes: list[int], device: torch.device) -> list[Tensor | None]:
    """Return which columns of each segment hold a token, if not all do."""
    if places.filled is None:
        return [None] * len(sizes)
    masks = places.filled.to(device).split(sizes, dim=1)
    return [None if bool(mask.all()) else mask for mask in masks]


def _opens(places: Grid, column: int) -> bool | Tensor:
    """Return which rows begin a segment at this column."""
    if column != places.slot:
        return True
    return column == 0 if places.first is None else places.first == 0


def _put(slots: Tensor | None, new: Tensor, piece: Piece, length: int) -> Tensor:
    """Return a segment's slots with the new tokens written into theirs.

    Where some columns are empty the other rows' slots stay, all ``length`` of them.
    """
    slot, end = piece.slot, piece.slot + new.shape[3]
    if piece.filled is None:
        return new if slots is None or not slot else torch.cat([slots[:, :, :, :slot], new], dim=3)
    # first segment of a stream: no row has slots yet
    if slots is None:
        slots = new[:, :, :, :0]
    slots = _filled_up(slots, length).to(new.dtype)
    # (batch, piece) -> (batch, heads, 2, piece, head_dim) by broadcasting
    chosen = piece.filled[:, None, None, :, None]
    new = torch.where(chosen, new, slots[:, :, :, slot:end])
    return torch.cat([slots[:, :, :, :slot], new, slots[:, :, :, end:]], dim=3)


def _filled_up(slots: Tensor, length: int) -> Tensor:
    """Pad slots with zeros to ``length``."""
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
    rotation = Turns(*(factor[slot : slot + 1] for factor in table))
    # one rotation for all three, (batch, heads, 3, head_dim): query, context key, token key
    turned = turn(torch.cat([q, of_context[0], k], dim=2), rotation)
    keys = _with_slot(state.keys, slot, turned[:, :, 1:])
    values = _with_slot(state.values, slot, torch.cat([of_context[1], v], dim=2))
    all_keys = _seen(keys, slot + 1, prefix and prefix[0])
    all_values = _seen(values, slot + 1, prefix and prefix[1])
    # no mask: the buffers end at this slot, so all their keys are in the past
    y = mixer.attention.join(F.scaled_dot_product_attention(turned[:, :, :1], all_keys, all_values))
    recalled, memory, _ = mixer.memory.read_packed(mixer.write_norm(tokens + y), None, state.memory)
    after = SegmentState(memory, weights, keys, values, state.position + 1)
    return y + mixer.join(y, recalled), after


def _with_slot(slots: Tensor, slot: int, new: Tensor) -> Tensor:
    """Return a copy of a segment's slots, empty where it begins, with one more filled."""
    # a copy, since states are values: the caller may read on from the old one again
    slots = slots.clone() if slot else torch.zeros_like(slots)
    slots[:, :, :, slot] = new
    return slots


def _seen(slots: Tensor, end: int, prefix: Tensor | None) -> Tensor:
    """Return the keys, or values, of prefix, context and tokens so far."""
    sources = [slots[:, :, 0, :end], slots[:, :, 1, :end]]
    if prefix is not None:
        sources.insert(0, prefix.to(slots.dtype).expand(len(slots), -1, -1, -1))
    return torch.cat(sources, dim=2)
