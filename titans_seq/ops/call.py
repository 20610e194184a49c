"""One call of the memory as a record, and what a back end offers for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from titans_seq.ops.rules.rule import OutputNorm, Rates, UpdateRule
from titans_seq.ops.state import Carry, close_chunk


class SlotRange(NamedTuple):
    """Slots that each sequence's tokens fill in the grid of chunks that all sequences share.

    Shapes
    ------
    each (batch,), on the CPU
    """

    first: Tensor
    """Slot of the sequence's first token; the slots before it are empty or were read before."""

    last: Tensor
    """Slot after its last token."""


class MemoryCall(NamedTuple):
    """Tokens to write and read, the state before them, and the rule.

    A named tuple rather than a dataclass: it is immutable, ``torch.compile`` traces it, and
    making one costs a token-by-token stream less than a microsecond.
    """

    queries: Float[Tensor, "batch heads time dim"]
    keys: Float[Tensor, "batch heads time dim"]
    values: Float[Tensor, "batch heads time outputs"]
    rates: Rates

    start: tuple[Float[Tensor, "heads inner outer"], ...]
    """Learned first weights, one a layer."""

    carry: Carry | None
    """State before the first token, as an earlier call returned it; ``None`` before any token."""

    rule: UpdateRule

    chunk_size: int
    """Tokens between two refreshes of the weights where gradients are taken. With the gradient
    at every token: tokens computed at once, which changes the speed, not the result."""

    norm: OutputNorm | None = None
    """Learned LayerNorm of a memory with ``rule.residual_norm``."""

    slot: int = 0
    """Position of the first token in its chunk: tokens read before, modulo ``chunk_size``."""

    slots: SlotRange | None = None
    """Where each sequence stands, if they differ; empty slots have ``rates.write`` 0."""

    keep_state: bool = True
    """Whether the state after the last token is wanted; ``False`` saves computing it."""

    def span(self, first: int, last: int, carry: Carry | None, *, keep_state: bool) -> MemoryCall:
        """Return the call for tokens ``first`` to ``last`` (exclusive) of this one.

        Parameters
        ----------
        carry
            State before token ``first``.
        """
        queries, keys, values, *rates = (
            tensor[:, :, first:last]
            for tensor in (self.queries, self.keys, self.values, *self.rates)
        )
        return self._replace(
            queries=queries, keys=keys, values=values, rates=Rates(*rates), carry=carry,
            slot=(self.slot + first) % self.chunk_size, keep_state=keep_state,
        )  # fmt: skip

    def needs_gradient(self) -> bool:
        """Return whether autograd will ask for the gradient of any input."""
        if not torch.is_grad_enabled():
            return False
        carried = () if self.carry is None else (*self.carry.weights, *self.carry.momentum)
        inputs = (self.queries, self.keys, self.values, *self.rates, *self.start, *carried)
        return any(tensor.requires_grad for tensor in inputs)


class MemoryResult(NamedTuple):
    """What a call of the memory computes."""

    outputs: Float[Tensor, "batch heads time outputs"]

    losses: Float[Tensor, "batch heads time"]
    """Loss of each token before it was written, at the weights where its gradient is taken."""

    carry: Carry | None
    """State after the last token; ``None`` where it was not wanted."""


def with_chunk_closed(call: MemoryCall, result: MemoryResult) -> MemoryResult:
    """Return a result whose state is closed if the call ends where a chunk does."""
    end = call.slot + call.queries.shape[2]
    carry = close_chunk(result.carry, call.rule, call.chunk_size, end)
    return result._replace(carry=carry)


class BackEnd(NamedTuple):
    """One way to compute a call of the memory."""

    name: str

    device: str | None
    """Type of the devices that it is written for; ``None`` for all."""

    reason_against: Callable[[MemoryCall], str | None]
    """Return in a sentence why it cannot run a call; ``None`` if it can."""

    run: Callable[[MemoryCall], MemoryResult]
    """Run a call that nothing speaks against."""
