"""The memory in torch: every rule, on any device, under compilers, differentiable again."""

from __future__ import annotations

from titans_seq.ops.call import BackEnd, MemoryCall, MemoryResult, with_chunk_closed
from titans_seq.ops.general.chunked import memory_chunked
from titans_seq.ops.general.exact import memory_exact


def _no_reason(call: MemoryCall) -> None:
    return None


def _run(call: MemoryCall) -> MemoryResult:
    """Choose the form by the weights at which the rule takes gradients."""
    exact = call.rule.gradient_point == "token"
    result = memory_exact(call) if exact else memory_chunked(call)
    return result if call.slots is not None else with_chunk_closed(call, result)


TORCH = BackEnd("torch", None, _no_reason, _run)
