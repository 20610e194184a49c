"""The GPU kernels, run by triton's interpreter, against the loop and the torch forms."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

# Read by triton when it is imported, and by every launch after that.
os.environ["TRITON_INTERPRET"] = "1"

from titans_seq.ops.call import MemoryCall
from titans_seq.ops.general.memory import TORCH
from titans_seq.ops.gpu.memory import run_kernels
from titans_seq.ops.reference.memory import memory_reference
from titans_seq.ops.rules.rule import Rates, UpdateRule
from titans_seq.ops.state import Carry, split_start

HEADS, DIM, HIDDEN = 2, 5, 18
CLOSE = {"rtol": 1e-10, "atol": 1e-10}
EXACT = UpdateRule(gradient_point="token")
GATED_DELTA = UpdateRule(gradient_point="token", forget_to="zero", decay_first=True)
TITANS = UpdateRule()
CASES = {
    "exact": (EXACT, 1),
    "gated delta": (GATED_DELTA, 1),
    "titans, depth 1": (TITANS, 1),
    "titans, depth 2": (TITANS, 2),
    "gelu, forgets to zero": (UpdateRule(activation="gelu", forget_to="zero"), 2),
    "mean step": (UpdateRule(step="mean"), 2),
    "raw step, no bound": (UpdateRule(step="raw", gradient_bound=None), 2),
}


@pytest.fixture(autouse=True, scope="module")
def _patch_the_language_once() -> Iterator[None]:
    """Let the interpreter prepare the language once a launch, not at each helper's call.

    Its preparation walks the whole language: with helpers as small as ours that is more than
    half of the time of these tests.
    """
    from triton.runtime import interpreter

    original: Callable[..., Any] = interpreter._patch_lang
    patched: set[str] = set()

    def once(function: Any) -> Any:
        module = function.__globals__["__name__"]
        if module in patched:
            return None
        outermost = not patched
        patched.add(module)
        scope = original(function)
        if outermost:
            restore = scope.restore

            def leave() -> None:
                patched.clear()
                restore()

            scope.restore = leave
        return scope

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter, "_patch_lang", once)
        yield


class Problem(NamedTuple):
    """Inputs of one comparison; all that has a gradient asks for it."""

    tokens: tuple[Tensor, Tensor, Tensor]
    rates: Rates
    start: tuple[Tensor, ...]

    def leaves(self) -> list[Tensor]:
        return [*self.tokens, *self.rates[:3], *self.start]

    def part(self, first: int, last: int) -> Problem:
        tokens = tuple(one[:, :, first:last] for one in self.tokens)
        return Problem(tokens, Rates(*(one[:, :, first:last] for one in self.rates)), self.start)


def _problem(
    rule: UpdateRule, depth: int, time: int, *, batch: int = 1, hard_gates: bool = True
) -> Problem:
    generator = torch.Generator().manual_seed(time + depth)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    def gate() -> Tensor:
        soft, hard = rand(batch, HEADS, time), rand(batch, HEADS, time)
        if hard_gates:
            soft = torch.where(hard < 0.2, 0.0, torch.where(hard > 0.8, 1.0, soft))
        return soft

    q, k, v = (rand(batch, HEADS, time, DIM) * 2 - 1 for _ in range(3))
    q, k = (one / one.norm(dim=-1, keepdim=True) for one in (q, k))
    k[:, 1, 2:] = k[:, 1, 1:2]
    widths = [DIM, *[HIDDEN] * (depth - 1), DIM]
    start = tuple((rand(HEADS, widths[i], widths[i + 1]) * 2 - 1) for i in range(depth))
    scale = 0.1 if rule.step == "raw" else 1.0
    # a step of 0 beside a momentum of 1 has no gradient worth the name
    step = scale * (0.1 + 0.9 * gate())
    rates = Rates(gate().log(), gate().log(), step, torch.ones(batch, HEADS, time).double())
    problem = Problem((q, k, v), rates, start)
    for leaf in problem.leaves():
        leaf.requires_grad_()
    return problem


def _kernel(
    problem: Problem, rule: UpdateRule, chunk: int, carry: Carry | None = None, slot: int = 0
) -> tuple[Tensor, Tensor, Carry]:
    call = MemoryCall(*problem.tokens, problem.rates, problem.start, carry, rule, chunk, slot=slot)
    return run_kernels(call)


def _torch(
    problem: Problem, rule: UpdateRule, chunk: int, carry: Carry | None = None, slot: int = 0
) -> tuple[Tensor, Tensor, Carry]:
    call = MemoryCall(*problem.tokens, problem.rates, problem.start, carry, rule, chunk, slot=slot)
    return TORCH.run(call)


def _flat(result: tuple[Tensor, Tensor, Carry]) -> list[Tensor]:
    return [result[0], result[1], *(one for part in result[2] for one in part)]


def _gradients(results: list[Tensor], leaves: list[Tensor]) -> list[Tensor]:
    total = sum(
        (one * torch.linspace(-1, 1, one.numel()).to(one.dtype).reshape(one.shape)).sum()
        for one in results
    )
    found: list[Tensor] = list(
        torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
    )
    return found


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_loop_in_values_states_and_gradients(case: str) -> None:
    rule, depth = CASES[case]
    problem = _problem(rule, depth, 7)
    fast, fast_loss, carry = _kernel(problem, rule, 4)
    slow, slow_loss, states = memory_reference(
        *problem.tokens, problem.rates, problem.start, rule, 4
    )
    torch.testing.assert_close(fast, slow, **CLOSE)
    torch.testing.assert_close(fast_loss, slow_loss, **CLOSE)
    base, _ = split_start(problem.start, rule)
    for head in range(HEADS):
        weights, momentum = states[head]
        for layer in range(depth):
            mine = base[layer][head] + carry.weights[layer][head, 0]
            torch.testing.assert_close(mine, weights[layer], **CLOSE)
            torch.testing.assert_close(carry.momentum[layer][head, 0], momentum[layer], **CLOSE)
    mine, theirs = (
        _gradients([*pair], problem.leaves()) for pair in ((fast, fast_loss), (slow, slow_loss))
    )
    torch.testing.assert_close(mine, theirs, **CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "chunk", "time", "batch"),
    [("exact", 20, 23, 1), ("titans, depth 2", 20, 23, 1), ("titans, depth 2", 16, 16, 2)],
    ids=["exact, several blocks", "deep, several blocks", "deep, a batch, one whole chunk"],
)
def test_agrees_with_the_torch_form_in_every_part_of_the_state(
    case: str, chunk: int, time: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("titans_seq.ops.gpu.host.WIDEST", 16)  # two tiles of hidden units
    rule, depth = CASES[case]
    problem = _problem(rule, depth, time, batch=batch)
    mine, theirs = _flat(_kernel(problem, rule, chunk)), _flat(_torch(problem, rule, chunk))
    torch.testing.assert_close(mine, theirs, **CLOSE)
    pair = [_gradients(one, problem.leaves()) for one in (mine, theirs)]
    torch.testing.assert_close(pair[0], pair[1], **CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["exact", "titans, depth 1", "titans, depth 2"])
def test_two_calls_give_what_one_call_of_the_torch_form_gives(case: str) -> None:
    rule, depth = CASES[case]
    problem = _problem(rule, depth, 11)
    first, first_loss, carry = _kernel(problem.part(0, 6), rule, 4)
    second, second_loss, after = _kernel(problem.part(6, 11), rule, 4, carry, slot=2)
    whole = _flat(_torch(problem, rule, 4))
    parts = _flat((torch.cat([first, second], 2), torch.cat([first_loss, second_loss], 2), after))
    torch.testing.assert_close(parts, whole, **CLOSE)
    pair = [_gradients(one, problem.leaves()) for one in (parts, whole)]
    torch.testing.assert_close(pair[0], pair[1], **CLOSE)


@pytest.mark.parametrize("case", ["exact", "titans, depth 1", "titans, depth 2"])
def test_can_be_differentiated_twice(case: str) -> None:
    rule, depth = CASES[case]
    problem = _problem(rule, depth, 4, hard_gates=False)
    seconds = []
    for form in (_kernel, _torch):
        output, loss, _ = form(problem, rule, 2)
        total = output.square().sum() + loss.sum()
        firsts = torch.autograd.grad(total, problem.leaves(), create_graph=True)
        seconds.append(
            torch.autograd.grad(sum(one.square().sum() for one in firsts), problem.leaves())
        )
    torch.testing.assert_close(seconds[0], seconds[1], rtol=1e-8, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["exact", "titans, depth 2"])
def test_float32_and_bfloat16_stay_near_the_exact_answer(case: str) -> None:
    rule, depth = CASES[case]
    problem = _problem(rule, depth, 8, hard_gates=False)
    rough = tuple(one.bfloat16() for one in problem.tokens)
    for kind, bound in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        tokens = tuple(one.to(kind).detach().requires_grad_() for one in rough)
        single = Rates(*(one.detach().float() for one in problem.rates))
        start = tuple(one.detach().float() for one in problem.start)
        low = Problem(tokens, single, start)
        output, loss, carry = _kernel(low, rule, 4)
        assert output.dtype == kind
        assert loss.dtype == carry.weights[0].dtype == torch.float32

        double = tuple(one.detach().double().requires_grad_() for one in rough)
        high = Problem(
            double,
            Rates(*(one.double() for one in single)),
            tuple(one.double() for one in start),
        )
        right, _, _ = _torch(high, rule, 4)
        assert _distance(output, right) < bound
        grads = torch.autograd.grad(output.float().sum(), tokens)
        for found, wanted in zip(grads, torch.autograd.grad(right.sum(), double), strict=True):
            assert _distance(found, wanted) < 3 * bound


def _distance(found: Tensor, wanted: Tensor) -> float:
    error: Tensor = (found.double() - wanted).norm() / wanted.norm()
    return float(error.detach())


def test_without_a_gradient_only_two_states_are_kept_and_the_answer_is_the_same() -> None:
    problem = _problem(TITANS, 2, 11)
    learned = _kernel(problem, TITANS, 4)
    with torch.inference_mode():
        read = _kernel(problem, TITANS, 4)
    torch.testing.assert_close(_flat(read), _flat(learned), rtol=0, atol=0)


@pytest.mark.parametrize("case", ["gated delta", "titans, depth 1", "gelu, forgets to zero"])
def test_what_does_not_fit_on_the_chip_is_computed_by_torch(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("exact", "chunked"):
        monkeypatch.setattr(f"titans_seq.ops.gpu.{module}.fits", lambda launch: False)
    rule, depth = CASES[case]
    problem = _problem(rule, depth, 7)
    mine, theirs = _flat(_kernel(problem, rule, 4)), _flat(_torch(problem, rule, 4))
    torch.testing.assert_close(mine, theirs, **CLOSE)
    pair = [_gradients(one, problem.leaves()) for one in (mine, theirs)]
    torch.testing.assert_close(pair[0], pair[1], **CLOSE)


def test_leaves_out_the_state_on_request() -> None:
    problem = _problem(TITANS, 1, 5)
    given = (*problem.tokens, problem.rates, problem.start, None, TITANS)
    output, _, carry = run_kernels(MemoryCall(*given, chunk_size=4, keep_state=False))
    assert carry is None
    torch.testing.assert_close(output, _torch(problem, TITANS, 4)[0], **CLOSE)
