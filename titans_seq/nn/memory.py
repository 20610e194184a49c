"""The neural long-term memory as a layer."""

from __future__ import annotations

import itertools
from typing import Literal, overload

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from titans_seq.exceptions import ConfigError, DataError
from titans_seq.nn.convolution import CausalConvolution
from titans_seq.nn.decode import read_token
from titans_seq.nn.gates import MemoryGates
from titans_seq.nn.packing import (
    Position,
    advance,
    from_grid,
    grid,
    pack_finite,
    slots_of,
    to_grid,
    unpack,
)
from titans_seq.nn.rules import LearningRule, check_depth, find_rule
from titans_seq.nn.state import MemoryState
from titans_seq.nn.state_checks import check_kind, check_memory, in_chunks_of
from titans_seq.ops.call import SlotRange
from titans_seq.ops.features import leave, normalise, unit
from titans_seq.ops.general.chunk_network import read_at
from titans_seq.ops.memory import learn_and_read
from titans_seq.ops.rules.rule import OutputNorm, Rates
from titans_seq.ops.state import Carry, Layout, first_carry, split_start


class NeuralMemory(nn.Module):
    """A network whose weights are updated while it reads (arXiv 2501.00663, section 3).

    Each head is a small network of its own. A token writes its key and value into it by a
    step along the gradient of ``1/2 |f(key) - value|^2``, then reads it with its query.
    Queries, keys and values pass a depthwise causal convolution and SiLU, queries and keys
    are l2-normalised, and what is read is normalised and gated before its projection
    (section 4.4).

    Parameters
    ----------
    dim
        Width of a token.
    heads
        Independent memories, each on ``dim / heads`` of the width.
    depth
        Layers of each memory, 1 to 4; 1 is a linear memory.
    expansion
        Hidden width of a deep memory over its input's width.
    chunk_size
        Tokens between two refreshes of the point where gradients are taken. For rules with
        the gradient at every token it changes speed only.
    rule
        A name from :data:`titans_seq.nn.rules.RULES`, or a rule of one's own.

    Raises
    ------
    ConfigError
        If the sizes do not fit each other or the rule.
    """

    def __init__(
        self,
        dim: int,
        heads: int = 4,
        depth: int = 2,
        expansion: float = 2.0,
        chunk_size: int = 64,
        rule: str | LearningRule = "titans",
    ) -> None:
        super().__init__()
        if dim < 1 or heads < 1 or dim % heads:
            raise ConfigError(f"dim={dim} cannot be shared among heads={heads}")
        if chunk_size < 1:
            raise ConfigError(f"chunk_size={chunk_size}: at least 1")
        self.rule = find_rule(rule)
        check_depth(self.rule, depth)
        self.dim, self.heads, self.depth, self.chunk_size = dim, heads, depth, chunk_size
        width = dim // heads
        hidden = max(1, round(expansion * width))
        widths = [width, *[hidden] * (depth - 1), width]
        self.project = nn.Linear(dim, 3 * dim, bias=False)
        self.convolve = CausalConvolution(3 * dim)
        self.gates = MemoryGates(dim, heads, self.rule)
        self.start = nn.ParameterList(
            _first_weights(heads, inner, outer, layer == 0 and depth > 1)
            for layer, (inner, outer) in enumerate(itertools.pairwise(widths))
        )
        self.gain: nn.Parameter | None = None
        self.bias: nn.Parameter | None = None
        if self.rule.update.residual_norm:
            self.gain = nn.Parameter(torch.ones(heads, width))
            self.bias = nn.Parameter(torch.zeros(heads, width))
        self.norm = nn.Parameter(torch.ones(dim))
        self.gate = nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    @overload
    def forward(
        self,
        x: Tensor,
        state: MemoryState | None = None,
        mask: Tensor | None = None,
        *,
        return_surprise: Literal[False] = False,
    ) -> tuple[Tensor, MemoryState]: ...
    @overload
    def forward(
        self,
        x: Tensor,
        state: MemoryState | None = None,
        mask: Tensor | None = None,
        *,
        return_surprise: Literal[True],
    ) -> tuple[Tensor, MemoryState, Tensor]: ...

    def forward(
        self,
        x: Float[Tensor, "batch time dim"],
        state: MemoryState | None = None,
        mask: Bool[Tensor, "batch time"] | None = None,
        *,
        return_surprise: bool = False,
    ) -> tuple[Tensor, MemoryState] | tuple[Tensor, MemoryState, Tensor]:
        """Write and read every token.

        Parameters
        ----------
        x
            Tokens, (batch, time, dim).
        state
            State from the previous call; ``None`` starts a new sequence.
        mask
            (batch, time), True for a real token. Masked tokens are as if absent: they write
            nothing, age nothing, and their outputs are zero. Tokens that hold NaN or infinity
            are as if absent, too, and their outputs are NaN.
        return_surprise
            Return also the inner loss of each token before it was written, (batch, time), a
            mean over heads, at the weights where its gradient is taken.

        Returns
        -------
        outputs
            (batch, time, dim)
        state
            To go on from; its size does not depend on ``time``.
        """
        if x.dim() != 3 or x.shape[-1] != self.dim:
            raise DataError(
                f"memory got tokens of shape {tuple(x.shape)}, expected (batch, time, {self.dim})"
            )
        if not x.shape[0] or not x.shape[1]:
            same = self._after_nothing(x, state)
            return (x, same, x.new_zeros(x.shape[:2])) if return_surprise else (x, same)
        packed = pack_finite(x, mask)
        y, after, loss = self.read_packed(packed.tokens, packed.lengths, state)
        assert after is not None
        y = unpack(y, packed, x.shape[1])
        if not return_surprise:
            return y, after
        return y, after, unpack(loss.unsqueeze(-1), packed, x.shape[1]).squeeze(-1)

    def read_packed(
        self,
        tokens: Float[Tensor, "batch time dim"],
        lengths: Int[Tensor, "batch"] | None,
        state: MemoryState | None,
        *,
        keep_state: bool = True,
    ) -> tuple[Tensor, MemoryState | None, Tensor]:
        """Write and read tokens whose rows are packed to the left.

        Returns
        -------
        outputs
            (batch, time, dim)
        state
            To go on from; ``None`` unless ``keep_state``, which saves computing it.
        losses
            (batch, time), as the surprise of :meth:`forward`.
        """
        batch, time, _ = tokens.shape
        # decoding: the compiled code does the whole layer in one call, where it can
        if time == 1 and lengths is None and keep_state:
            answer = read_token(self, tokens, state)
            if answer is not None:
                return answer
        layout = self.layout(tuple(self.start), batch)
        state = self.admit(state, layout)
        position = 0 if state is None else state.position
        past = None if state is None else state.convolution
        projected = self.project(tokens)
        per_token = [*self.convolve(projected, past, self.heads), *self.gates(tokens)]

        # gradients at every token have no chunk to align, so every row fits the grid as it is
        period = 1 if self.rule.update.gradient_point == "token" else self.chunk_size
        places = grid(position, lengths, time, period)
        slots = None
        # rows that begin or end in different slots close their chunks at different columns
        if places.first is not None or (lengths is not None and keep_state):
            slots = SlotRange(*slots_of(position, lengths, time, period, batch))
        # each (batch, heads, time, ...): columns are axis 2
        q, k, v, *rates = (to_grid(tensor, places, 2) for tensor in per_token)
        out, loss, carry = learn_and_read(
            q, k, v, Rates(*rates), tuple(self.start), None if state is None else state.carry,
            self.rule.update, chunk_size=self.chunk_size, norm=self._output_norm(),
            slot=places.slot, slots=slots, keep_state=keep_state,
        )  # fmt: skip
        out, loss = from_grid(out, places, time, 2), from_grid(loss, places, time, 2)
        y = self._leave(out, tokens)
        if not keep_state or carry is None:
            return y, None, loss.mean(1)
        tail = self.convolve.tail(projected, past, lengths)
        after = MemoryState(
            carry, tail, advance(position, lengths, time), self.chunk_size, self.rule.name
        )
        if not torch.compiler.is_compiling():
            after.mark_layout(layout)
        return y, after, loss.mean(1)

    def _after_nothing(self, x: Tensor, state: MemoryState | None) -> MemoryState:
        """Return the state after no sequences, or no tokens."""
        start = tuple(self.start)
        layout = self.layout(start, len(x))
        state = self.admit(state, layout)
        if state is not None:
            return state
        carry = first_carry(start, self.rule.update, len(x), self.chunk_size)
        tail = x.new_zeros(len(x), self.convolve.kernel - 1, 3 * self.dim)
        return MemoryState(carry, tail, 0, self.chunk_size, self.rule.name)

    def layout(self, start: tuple[Tensor, ...], batch: int) -> Layout:
        """Return the layout that a state of ``batch`` memories must have."""
        shapes = tuple([weight.shape for weight in start])
        return Layout(
            self.rule.update, self.chunk_size, batch, shapes, start[0].dtype, start[0].device
        )

    def admit(self, state: MemoryState | None, layout: Layout) -> MemoryState | None:
        """Return a state to read on from: checked, and in chunks of this memory's size.

        A state that this memory left, or that was admitted before, costs one comparison.

        Raises
        ------
        DataError
            If the state does not fit; see :meth:`check_state`.
        """
        if state is None:
            return None
        if torch.compiler.is_compiling():
            chunk_size = self._checked_chunk_size(state, layout, "state")
            return in_chunks_of(state, self.chunk_size, chunk_size)
        # `layout` does not write an open chunk out, so this stays cheap in a stream
        if type(state) is MemoryState and state.layout == layout:
            return state
        chunk_size = self._checked_chunk_size(state, layout, "state")
        return in_chunks_of(state, self.chunk_size, chunk_size).mark_layout(layout)

    def check_state(self, state: object, batch: int, name: str = "state") -> Position:
        """Refuse a state that this memory cannot read a batch with; return its position.

        Raises
        ------
        DataError
            If it is of another kind, rule, size, floating type or device, or stands inside a
            chunk of another size.
        """
        kept = check_kind(state, MemoryState, name)
        self._checked_chunk_size(kept, self.layout(tuple(self.start), batch), name)
        return kept.position

    def _checked_chunk_size(self, state: object, layout: Layout, name: str) -> int:
        """Return the chunk size of a state that fits."""
        kept = check_kind(state, MemoryState, name)
        tail = (layout.batch, self.convolve.kernel - 1, 3 * self.dim)
        return check_memory(kept, layout, self.rule.name, tail, self.start[0], name)

    def weights(
        self, carry: Carry | None, batch: int
    ) -> tuple[Float[Tensor, "heads batch inner outer"], ...]:
        """Return the memory's full weights, including the base that forgetting decays towards.

        Parameters
        ----------
        carry
            State of ``batch`` memories; ``None`` if they have read nothing.
        """
        if carry is None:
            return tuple(w.unsqueeze(1).expand(-1, batch, -1, -1) for w in self.start)
        # the carry holds offsets from that base, (heads, batch, inner, outer)
        base, _ = split_start(tuple(self.start), self.rule.update)
        return tuple(b.unsqueeze(1) + w for b, w in zip(base, carry.weights, strict=True))

    def read(
        self,
        queries: Float[Tensor, "batch heads time dim"],
        weights: tuple[Float[Tensor, "heads batch inner outer"], ...],
    ) -> Float[Tensor, "batch time merged"]:
        """Read fixed weights with queries of unit length; nothing is written (eq. 15)."""
        # heads first, as weights are: one batched product serves all heads and rows
        head_first = rearrange(unit(queries), "b h t d -> h b t d").to(weights[0].dtype)
        out = read_at(weights, head_first, self.rule.update, self._output_norm())
        return normalise(rearrange(out, "h b t d -> b h t d"), self.norm)

    def _output_norm(self) -> OutputNorm | None:
        """Return the learned LayerNorm of a memory that has one."""
        if self.gain is None or self.bias is None:
            return None
        return OutputNorm(self.gain, self.bias)

    def _leave(self, out: Tensor, tokens: Tensor) -> Tensor:
        """Normalise, gate and project what was read."""
        gated = leave(out, self.gate(tokens), self.norm)
        # rates are float32 at least, so in half precision the reading comes back wider
        joined: Tensor = self.out(gated.to(self.out.weight.dtype))
        return joined


def _first_weights(heads: int, inner: int, outer: int, enters: bool) -> Tensor:
    """Return random weights that give unit variance.

    Keys have unit length, so the layer that they enter, if others follow, needs a deviation
    of 1: with less the hidden layer is close to linear and recalls an order worse (16 pairs
    among 4,096 tokens, relative squared error: depth 2 0.02 for 0.2, depth 3 0.04 for 0.5).
    """
    return torch.randn(heads, inner, outer) * (1.0 if enters else inner**-0.5)
