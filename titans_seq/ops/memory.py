"""One call for every rule: the first back end that can run it does."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from titans_seq.ops.call import BackEnd, MemoryCall, MemoryResult, SlotRange
from titans_seq.ops.cpu.memory import COMPILED
from titans_seq.ops.cpu.memory_operator import OPERATOR
from titans_seq.ops.general.memory import TORCH
from titans_seq.ops.gpu.memory import TRITON
from titans_seq.ops.rules.rule import OutputNorm, Rates, UpdateRule
from titans_seq.ops.state import Carry

BACK_ENDS = (COMPILED, OPERATOR, TRITON, TORCH)
"""Ways to compute a call, the fastest first; the last can compute every call."""


def learn_and_read(
    queries: Float[Tensor, "batch heads time dim"],
    keys: Float[Tensor, "batch heads time dim"],
    values: Float[Tensor, "batch heads time dim"],
    rates: Rates,
    start: tuple[Float[Tensor, "heads inner outer"], ...],
    carry: Carry | None,
    rule: UpdateRule,
    *,
    chunk_size: int,
    norm: OutputNorm | None = None,
    slot: int = 0,
    slots: SlotRange | None = None,
    keep_state: bool = True,
) -> MemoryResult:
    """Write and read every token, read after write.

    The arguments are the fields of :class:`titans_seq.ops.call.MemoryCall`. The state is
    trusted here: layers check what users hand in before they call this.
    """
    call = MemoryCall(
        queries, keys, values, rates, start, carry, rule, chunk_size, norm, slot, slots, keep_state
    )
    return choose_back_end(call).run(call)


def example_call(rule: UpdateRule, depth: int, device: torch.device | str) -> MemoryCall:
    """Return a small call of a rule, to find out which back end runs the rule on a device."""
    tokens = torch.zeros(1, 2, 16, 8, device=device)
    rates = Rates(*(torch.zeros(1, 2, 16, device=device) for _ in Rates._fields))
    start = tuple(torch.zeros(2, 8, 8, device=device) for _ in range(depth))
    norm = None
    if rule.residual_norm:
        norm = OutputNorm(torch.ones(2, 8, device=device), torch.zeros(2, 8, device=device))
    return MemoryCall(tokens, tokens, tokens, rates, start, None, rule, 8, norm)


def choose_back_end(call: MemoryCall) -> BackEnd:
    """Return the fastest back end that can run a call."""
    for back_end in BACK_ENDS:
        if back_end.reason_against(call) is None:
            return back_end
    raise AssertionError("the torch form runs every call")


def reasons_against_faster(call: MemoryCall) -> dict[str, str]:
    """Return why each back end before the chosen one cannot run a call, by its name.

    Back ends for other devices than the call's are left out.
    """
    reasons: dict[str, str] = {}
    for back_end in BACK_ENDS:
        reason = back_end.reason_against(call)
        if reason is None:
            break
        if back_end.device in (None, call.queries.device.type):
            reasons[back_end.name] = reason
    return reasons
