"""One token of a stream through memory as context.

What :meth:`titans_seq.nn.context.ContextMixer.forward` computes for a single token without
gradients: there is one segment, so nothing is cut, moved or masked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from titans_seq.nn.state import SegmentState
from titans_seq.ops.attention.rotary import Turns, turn

if TYPE_CHECKING:
    from titans_seq.nn.context import ContextMixer


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
    """Read and write one token of every row.

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
