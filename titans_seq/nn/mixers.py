"""How memory and attention are joined: the variants of section 4 of arXiv 2501.00663.

Each mixer reads normalised tokens, packed to the left, and returns what the block adds to
its residual stream, with the state to go on from.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from titans_seq.config import TitansConfig
from titans_seq.exceptions import DataError
from titans_seq.nn.attention import SlidingAttention
from titans_seq.nn.memory import NeuralMemory
from titans_seq.nn.norms import RMSNorm
from titans_seq.nn.packing import Position
from titans_seq.nn.state import AttentionState, MemoryState, StackState, State
from titans_seq.nn.state_checks import check_kind, check_same_position


class Mixer(Protocol):
    """Interface between a block and its mixer."""

    def __call__(
        self, tokens: Tensor, lengths: Tensor | None, state: State | None, keep_state: bool
    ) -> tuple[Tensor, State | None]:
        """Return the mixed tokens, and the state to go on from if it is to be kept."""
        ...

    def check_state(self, state: object, batch: int, name: str) -> Position:
        """Refuse a state that the mixer cannot read a batch with; return its position.

        Positions of all mixers of a stack are the same after the same tokens.
        """
        ...


def memory_from(config: TitansConfig) -> NeuralMemory:
    """Build the memory of a block."""
    return NeuralMemory(
        config.dim,
        heads=config.heads,
        depth=config.memory_depth,
        expansion=config.memory_expansion,
        chunk_size=config.chunk_size,
        rule=config.rule,
    )


class PersistentTokens(nn.Module):
    """Learned tokens that do not depend on the input (equation 19)."""

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(count, dim))


class MemoryMixer(PersistentTokens):
    """LMM: the memory as the only mixer. Persistent tokens are what it reads first."""

    def __init__(self, config: TitansConfig) -> None:
        super().__init__(config.persistent_tokens, config.dim)
        self.memory = memory_from(config)

    def forward(
        self,
        tokens: Float[Tensor, "batch time dim"],
        lengths: Int[Tensor, "batch"] | None,
        state: State | None,
        keep_state: bool = True,
    ) -> tuple[Tensor, MemoryState | None]:
        """Return what the memory reads, and its state."""
        assert state is None or isinstance(state, MemoryState)
        return read_after_prefix(self.memory, self.tokens, tokens, lengths, state, keep_state)

    def check_state(self, state: object, batch: int, name: str = "state") -> Position:
        """Refuse a state that this layer cannot read a batch with; return its position."""
        return self.memory.check_state(state, batch, name)


class AttentionMixer(PersistentTokens):
    """Sliding-window attention without a memory: the control."""

    def __init__(self, config: TitansConfig) -> None:
        super().__init__(config.persistent_tokens, config.dim)
        self.attention = SlidingAttention(config.dim, config.heads, config.window)

    def forward(
        self,
        tokens: Float[Tensor, "batch time dim"],
        lengths: Int[Tensor, "batch"] | None,
        state: State | None,
        keep_state: bool = True,
    ) -> tuple[Tensor, AttentionState | None]:
        """Return what each token attends to, and the window's state."""
        assert state is None or isinstance(state, AttentionState)
        mixed, after = self.attention(tokens, self.tokens, lengths, state, keep_state=keep_state)
        return mixed, after

    def check_state(self, state: object, batch: int, name: str = "state") -> Position:
        """Refuse a state that this layer cannot read a batch with; return its position."""
        return self.attention.check_state(state, batch, name)


class GateMixer(PersistentTokens):
    """MAG: sliding-window attention and memory side by side, joined by a gate.

    Equations 26 to 28; the gate is, as in the paper's experiments, both outputs normalised
    with learned weights and a non-linearity: ``norm(attention) * silu(norm(memory))``, then
    a projection.
    """

    def __init__(self, config: TitansConfig) -> None:
        super().__init__(config.persistent_tokens, config.dim)
        self.attention = SlidingAttention(config.dim, config.heads, config.window)
        self.memory = memory_from(config)
        self.join = GatedJoin(config.dim)

    def forward(
        self,
        tokens: Float[Tensor, "batch time dim"],
        lengths: Int[Tensor, "batch"] | None,
        state: State | None,
        keep_state: bool = True,
    ) -> tuple[Tensor, StackState | None]:
        """Return the gated sum of both branches, and both states."""
        seen, recalled = _two(state)
        assert seen is None or isinstance(seen, AttentionState)
        assert recalled is None or isinstance(recalled, MemoryState)
        attended, seen = self.attention(tokens, self.tokens, lengths, seen, keep_state=keep_state)
        read, recalled = read_after_prefix(
            self.memory, self.tokens, tokens, lengths, recalled, keep_state
        )
        return self.join(attended, read), StackState((seen, recalled)) if keep_state else None

    def check_state(self, state: object, batch: int, name: str = "state") -> Position:
        """Refuse a state that this layer cannot read a batch with; return its position."""
        seen, recalled = _check_two(state, name, (AttentionState, MemoryState))
        # the memory has read the persistent tokens too, the window counts real tokens only
        position = self.attention.check_state(seen, batch, f"{name}.layers.0")
        read = self.memory.check_state(recalled, batch, f"{name}.layers.1")
        check_same_position(f"{name}.layers.1", read, position + len(self.tokens), batch)
        return position


class LayerMixer(PersistentTokens):
    """MAL: memory, then sliding-window attention on what it read (equations 29 to 31).

    Each has its own residual connection, as the paper asks of every block.
    """

    def __init__(self, config: TitansConfig) -> None:
        super().__init__(config.persistent_tokens, config.dim)
        self.memory = memory_from(config)
        self.norm = RMSNorm(config.dim)
        self.attention = SlidingAttention(config.dim, config.heads, config.window)

    def forward(
        self,
        tokens: Float[Tensor, "batch time dim"],
        lengths: Int[Tensor, "batch"] | None,
        state: State | None,
        keep_state: bool = True,
    ) -> tuple[Tensor, StackState | None]:
        """Return memory and attention on top of it, and both states."""
        recalled, seen = _two(state)
        assert seen is None or isinstance(seen, AttentionState)
        assert recalled is None or isinstance(recalled, MemoryState)
        read, recalled = read_after_prefix(
            self.memory, self.tokens, tokens, lengths, recalled, keep_state
        )
        attended, seen = self.attention(
            self.norm(tokens + read), self.tokens, lengths, seen, keep_state=keep_state
        )
        return read + attended, StackState((recalled, seen)) if keep_state else None

    def check_state(self, state: object, batch: int, name: str = "state") -> Position:
        """Refuse a state that this layer cannot read a batch with; return its position."""
        recalled, seen = _check_two(state, name, (MemoryState, AttentionState))
        read = self.memory.check_state(recalled, batch, f"{name}.layers.0")
        position = self.attention.check_state(seen, batch, f"{name}.layers.1")
        check_same_position(f"{name}.layers.0", read, position + len(self.tokens), batch)
        return position


class GatedJoin(nn.Module):
    """Both inputs normalised with learned weights, the second a gate on the first."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first = RMSNorm(dim)
        self.second = RMSNorm(dim)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Return the projected product."""
        joined: Tensor = self.out(self.first(one) * F.silu(self.second(other)))
        return joined


def read_after_prefix(
    memory: NeuralMemory,
    persistent: Float[Tensor, "prefix dim"],
    tokens: Float[Tensor, "batch time dim"],
    lengths: Int[Tensor, "batch"] | None,
    state: MemoryState | None,
    keep_state: bool = True,
) -> tuple[Tensor, MemoryState | None]:
    """Read tokens with a memory; one that has read nothing reads the persistent tokens first."""
    count = len(persistent)
    if state is not None or not count:
        out, after, _ = memory.read_packed(tokens, lengths, state, keep_state=keep_state)
        return out, after
    # in front of packed rows, so the real tokens stay contiguous and lengths just grow
    prefix = persistent.unsqueeze(0).expand(len(tokens), -1, -1)
    longer = None if lengths is None else lengths + count
    longer_tokens = torch.cat([prefix, tokens], dim=1)
    out, after, _ = memory.read_packed(longer_tokens, longer, None, keep_state=keep_state)
    return out[:, count:], after


def _two(state: State | None) -> tuple[State | None, State | None]:
    """Return the states of both branches."""
    if state is None:
        return None, None
    assert isinstance(state, StackState)
    first_state, second_state = state.layers
    return first_state, second_state


def _check_two(
    state: object, name: str, kinds: tuple[type[State], type[State]]
) -> tuple[State | None, State | None]:
    """Return both branches' states; refuse a state that does not hold these kinds."""
    layers = check_kind(state, StackState, name).layers
    if not isinstance(layers, tuple) or tuple(map(type, layers)) != kinds:
        raise DataError(
            f"{name} must hold a {kinds[0].__name__} and a {kinds[1].__name__}: it belongs to "
            "another variant"
        )
    first, second = layers
    return first, second
