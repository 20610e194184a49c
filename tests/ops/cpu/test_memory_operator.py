"""The memory as an operator: its contract with torch, and its gradients against eager's."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from titans_seq.ops.call import MemoryCall, MemoryResult
from titans_seq.ops.cpu import library as kernels
from titans_seq.ops.cpu.memory import read_in_pieces
from titans_seq.ops.cpu.memory_operator import operator_arguments, run_operator
from titans_seq.ops.cpu.operators import apart
from titans_seq.ops.rules.rule import Rates, UpdateRule
from titans_seq.ops.state import Carry

pytestmark = pytest.mark.skipif(
    kernels.library() is None, reason="the package was installed without a C compiler"
)

RULES = {
    "titans": UpdateRule(),
    "plain steps": UpdateRule(step="mean", activation="gelu", gradient_bound=None),
    "exact": UpdateRule(gradient_point="token", forget_to="zero", decay_first=True),
}


def _call(rule: UpdateRule, time: int, slot: int, keep_state: bool = True) -> MemoryCall:
    """Return the tokens of a call that goes on from ``slot``; 0 begins anew."""
    source = torch.Generator().manual_seed(time)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=source, dtype=torch.float64)

    widths = (4, 4) if rule.gradient_point == "token" else (4, 5, 4)
    start = tuple(rand(2, *pair) - 0.5 for pair in itertools.pairwise(widths))

    def tokens(time: int) -> tuple[Tensor, Tensor, Tensor, Rates]:
        q, k, v = (rand(3, 2, time, 4) - 0.5 for _ in range(3))
        keep, momentum, step = (rand(3, 2, time) for _ in range(3))
        return q, k, v, Rates(keep.log(), momentum.log(), step, torch.ones_like(step))

    carry: Carry | None = None
    if slot:
        carry = read_in_pieces(MemoryCall(*tokens(slot), start, None, rule, 4)).carry
    return MemoryCall(
        *tokens(time), start, carry, rule, chunk_size=4, slot=slot, keep_state=keep_state
    )


def _flat(call: MemoryCall) -> list[Tensor]:
    carried = () if call.carry is None else tuple(one for kind in call.carry for one in kind)
    return [*call[:3], *call.rates, *call.start, *carried]


def _results(result: MemoryResult) -> list[Tensor]:
    out, loss, carry = result
    return [out, loss, *(() if carry is None else (one for kind in carry for one in kind))]


@pytest.mark.parametrize("keep_state", [True, False])
@pytest.mark.parametrize(("slot", "time"), [(0, 8), (0, 11), (0, 3), (3, 1), (3, 10), (1, 2)])
@pytest.mark.parametrize("case", RULES)
def test_values_and_gradients_are_eagers(case: str, slot: int, time: int, keep_state: bool) -> None:
    call = _call(RULES[case], time, slot, keep_state)
    leaves = [one.requires_grad_() for one in _flat(call) if one is not call.rates.write]
    found = []
    for form in (run_operator, read_in_pieces):
        results = _results(form(call))
        total = sum((one * torch.linspace(-1, 1, one.numel()).reshape(one.shape)).sum()
                    for one in results)  # fmt: skip
        assert isinstance(total, Tensor)
        by = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
        found.append((results, by))
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(("slot", "time"), [(0, 8), (3, 6)])
@pytest.mark.parametrize("case", ["titans", "exact"])
def test_operators_keep_their_contract(case: str, slot: int, time: int) -> None:
    call = _call(RULES[case], time, slot)
    for one in call[:3]:
        one.requires_grad_()
    given = operator_arguments(call)
    forward = torch.ops.titans_seq.learn_and_read.default
    # two runs' tapes differ in places that nobody reads, so runs are not compared here
    how: dict[str, Any] = {
        "test_utils": ("test_schema", "test_autograd_registration", "test_faketensor")
    }
    torch.library.opcheck(forward, given, **how)
    *results, tape = (one.detach() for one in forward(*given))
    grads = [torch.ones_like(results[0]), None, *(torch.ones_like(one) for one in results[2:])]
    plain = [[one.detach() for one in some] for some in given[:3]]
    backward = torch.ops.titans_seq.learn_and_read_backward.default
    torch.library.opcheck(backward, (grads, *plain, tape, *given[3:-1]))


def test_what_shares_memory_is_copied_once() -> None:
    given, fresh = torch.zeros(4), torch.ones(3)
    results = apart([fresh[:2], fresh, given[1:], given], [given])
    assert results[1] is fresh
    for one, right in zip(results, (fresh[:2], fresh, given[1:], given), strict=True):
        torch.testing.assert_close(one, right)
    places = {one.untyped_storage().data_ptr() for one in (*results, given)}
    assert len(places) == 5
