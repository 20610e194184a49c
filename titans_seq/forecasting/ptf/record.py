"""Hooks on a backbone: what enters its layers in a run, and a run without one token's write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from titans_seq.backbone import TitansBackbone
from titans_seq.forecasting.ptf.weights import Weights, segment_weights, sliding_weights
from titans_seq.nn.attention import SlidingAttention
from titans_seq.nn.context import ContextMixer
from titans_seq.nn.memory import NeuralMemory
from titans_seq.nn.packing import Packed, pack, unpack
from titans_seq.ops.rules.rule import Rates

NOWHERE = torch.iinfo(torch.int64).min
"""A column that no token stands in."""


class Record:
    """What entered the layers of a backbone in one run from an empty state."""

    def __init__(self) -> None:
        self.mask: Bool[Tensor, "batch tokens"] = torch.empty(0, 0, dtype=torch.bool)
        self.weights: list[Weights] = []
        self.written: dict[NeuralMemory, list[Tensor]] = {}
        self.prefixes: dict[NeuralMemory, int] = {}

    @property
    def packed(self) -> Packed:
        """Where the tokens stood when the layers read them."""
        return pack(self.mask.new_zeros(*self.mask.shape, 1, dtype=torch.float32), self.mask)

    def surprise(self, memory: NeuralMemory) -> Float[Tensor, "batch tokens"]:
        """Return the inner loss of each token before it was written; 0 for masked tokens."""
        packed, prefix = self.packed, self.prefixes[memory]
        lengths = None if packed.lengths is None else packed.lengths + prefix
        tokens = torch.cat(self.written[memory], dim=1)
        _, _, losses = memory.read_packed(tokens, lengths, None, keep_state=False)
        return unpack(losses[:, prefix:, None], packed, self.mask.shape[1]).squeeze(-1)


@contextmanager
def recording(backbone: TitansBackbone) -> Iterator[Record]:
    """Note what enters the layers of a backbone while the context lasts."""
    record = Record()
    with ExitStack() as stack:

        def note_mask(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            record.mask = kwargs["mask"]

        _hold(stack, backbone.register_forward_pre_hook(note_mask, with_kwargs=True))
        for block in backbone.blocks:
            assert isinstance(block.mixer, nn.Module)
            _watch(block.mixer, record, stack)
        yield record


def _watch(mixer: nn.Module, record: Record, stack: ExitStack) -> None:
    """Note what enters the layers of one mixer."""
    for layer in mixer.modules():
        if isinstance(layer, SlidingAttention):

            def note_sliding(layer: SlidingAttention, args: tuple[Any, ...], _: Any) -> None:
                record.weights.append(sliding_weights(layer, *args[:2]))

            _hold(stack, layer.register_forward_hook(note_sliding))
        if isinstance(layer, NeuralMemory):
            record.written[layer] = []
            # persistent tokens are the first that a memory reads, but not in MAC
            learned = getattr(mixer, "tokens", ())
            record.prefixes[layer] = 0 if isinstance(mixer, ContextMixer) else len(learned)
            note = partial(_note_input, record.written[layer])
            _hold(stack, layer.gates.register_forward_pre_hook(note))
    if isinstance(mixer, ContextMixer):
        contexts: list[Tensor] = []

        def note_segments(mixer: ContextMixer, args: tuple[Any, ...], _: Any) -> None:
            record.weights.append(segment_weights(mixer, args[0], contexts))
            contexts.clear()

        _hold(stack, mixer.norm.register_forward_hook(lambda *seen: contexts.append(seen[2])))
        _hold(stack, mixer.register_forward_hook(note_segments))


@contextmanager
def unwritten(record: Record, token: int) -> Iterator[None]:
    """Keep the memories from writing one token while the context lasts; they age all the same."""
    column = torch.where(record.mask, record.mask.cumsum(1) - 1, NOWHERE)[:, token]
    with ExitStack() as stack:
        for memory, prefix in record.prefixes.items():
            hook = _LeaveOut(column, prefix)
            _hold(stack, memory.gates.register_forward_hook(hook))
        yield


class _LeaveOut:
    """Takes the step from one token of each row; segments pass one after another."""

    def __init__(self, column: Int[Tensor, " batch"], prefix: int) -> None:
        self.column = column
        self.next = -prefix

    def __call__(self, _: nn.Module, args: tuple[Any, ...], rates: Rates) -> Rates:
        count = rates.step.shape[-1]
        here = torch.arange(self.next, self.next + count, device=rates.step.device)
        self.next += count
        chosen = here == self.column[:, None]
        return rates._replace(step=rates.step.masked_fill(chosen[:, None], 0.0))


def _note_input(seen: list[Tensor], _: nn.Module, args: tuple[Any, ...]) -> None:
    seen.append(args[0])


def _hold(stack: ExitStack, handle: RemovableHandle) -> None:
    """Remove a hook when the stack closes."""
    stack.callback(handle.remove)
