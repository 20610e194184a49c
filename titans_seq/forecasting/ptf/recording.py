"""Hooks on a backbone: record the inputs of its layers, or run it without one token's write.

Attention weights are recomputed from the recorded inputs, because the layers' own kernels never
materialise them. Rows are packed to the left, as the layers read them, from the start of a
sequence; what stands after the last real token of a row is not seen by any real one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from titans_seq.backbone import TitansBackbone
from titans_seq.nn.attention import SlidingAttention
from titans_seq.nn.context import ContextMixer
from titans_seq.nn.memory import NeuralMemory
from titans_seq.nn.packing import Packed, pack, unpack
from titans_seq.ops.attention.rotary import prefix_keys, rotate
from titans_seq.ops.rules.rule import Rates

_NO_COLUMN = torch.iinfo(torch.int64).min
"""Column of a masked token: none."""


class AttentionWeights(NamedTuple):
    """Attention weights of a layer; for every query they add up to 1."""

    tokens: Float[Tensor, "batch heads time keys"]
    context: Float[Tensor, "batch heads time keys"]
    """On what the memory recalled for each token; zero in a layer without context."""

    persistent: Float[Tensor, "batch heads time prefix"]


class ActivationRecord:
    """Recorded inputs of the layers of a backbone in one run from an empty state."""

    def __init__(self) -> None:
        self.mask: Bool[Tensor, "batch tokens"] = torch.empty(0, 0, dtype=torch.bool)
        self.weights: list[AttentionWeights] = []
        self.written: dict[NeuralMemory, list[Tensor]] = {}
        self.prefixes: dict[NeuralMemory, int] = {}

    @property
    def packed(self) -> Packed:
        """Return the packing of the tokens when the layers read them."""
        return pack(self.mask.new_zeros(*self.mask.shape, 1, dtype=torch.float32), self.mask)

    def surprise(self, memory: NeuralMemory) -> Float[Tensor, "batch tokens"]:
        """Return the inner loss of each token before it was written; 0 for masked tokens."""
        packed, prefix = self.packed, self.prefixes[memory]
        lengths = None if packed.lengths is None else packed.lengths + prefix
        tokens = torch.cat(self.written[memory], dim=1)
        _, _, losses = memory.read_packed(tokens, lengths, None, keep_state=False)
        return unpack(losses[:, prefix:, None], packed, self.mask.shape[1]).squeeze(-1)


@contextmanager
def record_activations(backbone: TitansBackbone) -> Iterator[ActivationRecord]:
    """Record the inputs of the layers of a backbone inside the context."""
    record = ActivationRecord()
    with ExitStack() as stack:

        def record_mask(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            record.mask = kwargs["mask"]

        _remove_on_exit(stack, backbone.register_forward_pre_hook(record_mask, with_kwargs=True))
        for block in backbone.blocks:
            assert isinstance(block.mixer, nn.Module)
            _add_hooks(block.mixer, record, stack)
        yield record


def _add_hooks(mixer: nn.Module, record: ActivationRecord, stack: ExitStack) -> None:
    """Record the inputs of the layers of one mixer."""
    for layer in mixer.modules():
        if isinstance(layer, SlidingAttention):

            def record_sliding(layer: SlidingAttention, args: tuple[Any, ...], _: Any) -> None:
                record.weights.append(sliding_weights(layer, *args[:2]))

            _remove_on_exit(stack, layer.register_forward_hook(record_sliding))
        if isinstance(layer, NeuralMemory):
            record.written[layer] = []
            # A memory reads the persistent tokens first, except in MAC.
            learned = getattr(mixer, "tokens", ())
            record.prefixes[layer] = 0 if isinstance(mixer, ContextMixer) else len(learned)
            hook = partial(_record_input, record.written[layer])
            _remove_on_exit(stack, layer.gates.register_forward_pre_hook(hook))
    if isinstance(mixer, ContextMixer):
        contexts: list[Tensor] = []

        def record_segments(mixer: ContextMixer, args: tuple[Any, ...], _: Any) -> None:
            record.weights.append(segment_weights(mixer, args[0], contexts))
            contexts.clear()

        _remove_on_exit(
            stack, mixer.norm.register_forward_hook(lambda *call: contexts.append(call[2]))
        )
        _remove_on_exit(stack, mixer.register_forward_hook(record_segments))


@contextmanager
def without_write(record: ActivationRecord, token: int) -> Iterator[None]:
    """Keep the memories from writing one token inside the context; they decay all the same."""
    column = torch.where(record.mask, record.mask.cumsum(1) - 1, _NO_COLUMN)[:, token]
    with ExitStack() as stack:
        for memory, prefix in record.prefixes.items():
            hook = _SkipWrite(column, prefix)
            _remove_on_exit(stack, memory.gates.register_forward_hook(hook))
        yield


class _SkipWrite:
    """Hook that sets the write step of one token a row to zero; segments come in order."""

    def __init__(self, column: Int[Tensor, " batch"], prefix: int) -> None:
        self.column = column
        self.next = -prefix

    def __call__(self, _: nn.Module, args: tuple[Any, ...], rates: Rates) -> Rates:
        count = rates.step.shape[-1]
        columns = torch.arange(self.next, self.next + count, device=rates.step.device)
        self.next += count
        skipped = columns == self.column[:, None]
        return rates._replace(step=rates.step.masked_fill(skipped[:, None], 0.0))


def _record_input(inputs: list[Tensor], _: nn.Module, args: tuple[Any, ...]) -> None:
    inputs.append(args[0])


def _remove_on_exit(stack: ExitStack, handle: RemovableHandle) -> None:
    """Remove a hook when the stack closes."""
    stack.callback(handle.remove)


def sliding_weights(
    attention: SlidingAttention,
    tokens: Float[Tensor, "batch time dim"],
    persistent: Float[Tensor, "prefix dim"],
) -> AttentionWeights:
    """Return the weights of sliding-window attention."""
    q, k, _ = attention.heads.split(tokens)
    positions = torch.arange(tokens.shape[1], device=tokens.device)
    lag = positions[:, None] - positions
    visible = (lag >= 0) & (lag < attention.window)
    q, k = rotate(q, positions), rotate(k, positions)
    prefix = _prefix(attention.heads.prefix(persistent), k)
    on_prefix, on_tokens = _softmax(q, [(prefix, None), (k, visible)])
    return AttentionWeights(on_tokens, torch.zeros_like(on_tokens), on_prefix)


def segment_weights(
    mixer: ContextMixer,
    tokens: Float[Tensor, "batch time dim"],
    contexts: Sequence[Float[Tensor, "batch piece dim"]],
) -> AttentionWeights:
    """Return the weights of attention within the segments of memory as context.

    Parameters
    ----------
    contexts
        Normalised recalls of the memory, one tensor a segment.
    """
    batch, time, _ = tokens.shape
    prefix = mixer.attention.prefix(mixer.tokens)
    heads = mixer.attention.heads
    weights = AttentionWeights(
        tokens.new_zeros(batch, heads, time, time),
        tokens.new_zeros(batch, heads, time, time),
        tokens.new_zeros(batch, heads, time, len(mixer.tokens)),
    )
    segments = tokens.split(mixer.segment_len, dim=1)
    for index, (segment, context) in enumerate(zip(segments, contexts, strict=True)):
        first = index * mixer.segment_len
        span = slice(first, first + segment.shape[1])
        positions = torch.arange(segment.shape[1], device=segment.device)
        q, k, _ = mixer.attention.split(segment)
        recalled, _ = mixer.attention.keys_values(context)
        q, k, recalled = (rotate(vectors, positions) for vectors in (q, k, recalled))
        causal = positions[:, None] >= positions
        on_prefix, on_context, on_tokens = _softmax(
            q, [(_prefix(prefix, k), None), (recalled, causal), (k, causal)]
        )
        weights.persistent[:, :, span] = on_prefix
        weights.context[:, :, span, span] = on_context
        weights.tokens[:, :, span, span] = on_tokens
    return weights


def _prefix(prefix: tuple[Tensor, Tensor] | None, keys: Tensor) -> Tensor:
    """Return the keys of the persistent tokens for a batch; empty if there are none."""
    if prefix is None:
        return keys[:, :, :0]
    return prefix_keys(prefix[0]).to(keys.dtype).expand(len(keys), -1, -1, -1)


def _softmax(queries: Tensor, groups: list[tuple[Tensor, Tensor | None]]) -> list[Tensor]:
    """Return the weights on each group of keys, one softmax over all; masks mark visible keys."""
    scores = []
    for keys, visible in groups:
        score = queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5
        scores.append(score if visible is None else score.masked_fill(~visible, -torch.inf))
    weights = torch.cat(scores, dim=-1).softmax(dim=-1)
    return list(weights.split([score.shape[-1] for score in scores], dim=-1))
