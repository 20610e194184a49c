"""The fast forms of the memory against the paper's update, token by token, in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from titans_seq.nn.rules import RULES
from titans_seq.ops.call import MemoryCall
from titans_seq.ops.general.chunked import memory_chunked
from titans_seq.ops.memory import learn_and_read
from titans_seq.ops.reference.memory import memory_reference
from titans_seq.ops.rules.bias import Huber, PowerError
from titans_seq.ops.rules.boundary import Orthogonalise
from titans_seq.ops.rules.rule import OutputNorm, Rates, UpdateRule
from titans_seq.ops.state import Carry, split_start

BATCH, HEADS, DIM, HIDDEN = 2, 2, 4, 6
TITANS, EXACT, TTT, GATED_DELTA, YAAD, MONETA, OMEGA, MUON = (
    rule.update for rule in RULES.values()
)

CASES = {
    "titans, depth 1": (TITANS, 1),
    "titans, depth 2": (TITANS, 2),
    "titans, depth 3": (TITANS, 3),
    "titans, gelu": (UpdateRule(activation="gelu"), 2),
    "forgets to zero": (UpdateRule(forget_to="zero"), 2),
    "mean step": (UpdateRule(step="mean"), 2),
    "raw step": (UpdateRule(step="raw", gradient_bound=None), 1),
    "ttt-linear": (TTT, 1),
    "ttt-mlp": (TTT, 2),
    "exact": (EXACT, 1),
    "gated delta": (GATED_DELTA, 1),
    "yaad": (YAAD, 2),
    "narrow huber, depth 1": (UpdateRule(bias=Huber(0.1)), 1),
    "cubic error": (UpdateRule(bias=PowerError(width=0.5)), 2),
    "moneta": (MONETA, 2),
    "moneta, depth 1": (MONETA, 1),
    "moneta, forgets to zero": (replace(MONETA, forget_to="zero"), 2),
    "moneta, residual": (replace(MONETA, residual_norm=True), 2),
    "omega": (OMEGA, 2),
    "window of 3": (UpdateRule(window=3), 1),
    "window of 2, mean step": (UpdateRule(window=2, step="mean"), 2),
    "muon": (MUON, 2),
    "muon, depth 1": (UpdateRule(boundary=Orthogonalise()), 1),
    "muon, forgets to zero": (replace(MUON, forget_to="zero"), 2),
    "window and boundary": (UpdateRule(window=3, boundary=Orthogonalise(3)), 2),
}


class Problem(NamedTuple):
    """Inputs of one comparison; all that has a gradient asks for it."""

    tokens: tuple[Tensor, Tensor, Tensor]
    rates: Rates
    start: tuple[Tensor, ...]
    norm: OutputNorm | None

    def leaves(self) -> list[Tensor]:
        return [*self.tokens, *self.rates[:3], *self.start, *(self.norm or ())]


def _problem(rule: UpdateRule, depth: int, time: int, hard_gates: bool) -> Problem:
    generator = torch.Generator().manual_seed(time + depth)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    def gate() -> Tensor:
        soft, hard = rand(BATCH, HEADS, time), rand(BATCH, HEADS, time)
        if hard_gates:
            soft = torch.where(hard < 0.2, 0.0, torch.where(hard > 0.8, 1.0, soft))
        return soft

    widths = [DIM, *[HIDDEN] * (depth - 1), DIM]
    q, k, v = (rand(BATCH, HEADS, time, DIM) * 2 - 1 for _ in range(3))
    q, k = (one / one.norm(dim=-1, keepdim=True) for one in (q, k))
    start = tuple((rand(HEADS, widths[i], widths[i + 1]) * 2 - 1) for i in range(depth))
    norm = OutputNorm(rand(HEADS, DIM) + 0.5, rand(HEADS, DIM)) if rule.residual_norm else None
    # below 1, so that no step meets its bound exactly, where the gradient is a matter of rounding
    scale = 0.1 if rule.step == "raw" else 0.9
    keep, momentum, step = gate(), gate(), gate()
    if rule.retention is not None:
        momentum = torch.zeros_like(momentum)
    real = torch.ones(BATCH, HEADS, time).double()
    rates = Rates(keep.log(), momentum.log(), scale * step, real)
    problem = Problem((q, k, v), rates, start, norm)
    for leaf in problem.leaves():
        leaf.requires_grad_()
    return problem


def _fast(problem: Problem, rule: UpdateRule, chunk: int) -> tuple[Tensor, Tensor, Carry]:
    return learn_and_read(
        *problem.tokens, problem.rates, problem.start, None, rule,
        chunk_size=chunk, norm=problem.norm,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("chunk", "time", "hard_gates"),
    [(1, 3, True), (4, 11, False), (4, 11, True), (8, 8, False), (16, 7, True)],
)
@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_loop_in_values_states_and_gradients(
    case: str, chunk: int, time: int, hard_gates: bool
) -> None:
    rule, depth = CASES[case]
    problem = _problem(rule, depth, time, hard_gates)
    fast, fast_loss, carry = _fast(problem, rule, chunk)
    slow, slow_loss, states = memory_reference(
        *problem.tokens, problem.rates, problem.start, rule, chunk, problem.norm
    )
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(fast, slow, **close)
    torch.testing.assert_close(fast_loss, slow_loss, **close)

    base, _ = split_start(problem.start, rule)
    for layer in range(depth):
        for b in range(BATCH):
            for h in range(HEADS):
                weights, momentum = states[b * HEADS + h]
                mine = base[layer][h] + carry.weights[layer][h, b]
                torch.testing.assert_close(mine, weights[layer], **close)
                moved = carry.momentum[layer][h, b]
                if rule.retention is not None:
                    moved = moved + base[layer][h]
                torch.testing.assert_close(moved, momentum[layer], **close)

    weight = torch.linspace(-1, 1, fast.numel(), dtype=torch.float64).reshape(fast.shape)
    pair = [
        torch.autograd.grad((y * weight).sum() + loss.sum(), problem.leaves(), allow_unused=True,
                            materialize_grads=True)
        for y, loss in ((fast, fast_loss), (slow, slow_loss))
    ]  # fmt: skip
    torch.testing.assert_close(pair[0], pair[1], **close)


@pytest.mark.parametrize("cut", [1, 4, 6, 10])
@pytest.mark.parametrize("case", CASES)
def test_two_calls_give_what_one_gives(case: str, cut: int) -> None:
    rule, depth = CASES[case]
    problem = _problem(rule, depth, 11, hard_gates=True)
    whole, whole_loss, whole_carry = _fast(problem, rule, 4)

    carry, outputs, losses = None, [], []
    for first, last in ((0, cut), (cut, 11)):
        q, k, v = (one[:, :, first:last] for one in problem.tokens)
        rates = Rates(*(one[:, :, first:last] for one in problem.rates))
        out, loss, carry = learn_and_read(
            q, k, v, rates, problem.start, carry, rule,
            chunk_size=4, norm=problem.norm, slot=first % 4,
        )  # fmt: skip
        outputs.append(out)
        losses.append(loss)
    torch.testing.assert_close(torch.cat(outputs, 2), whole, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(torch.cat(losses, 2), whole_loss, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(tuple(carry), tuple(whole_carry), rtol=1e-10, atol=1e-10)


def test_recomputing_chunks_changes_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = _problem(TITANS, 2, 24, hard_gates=False)
    recomputed = []

    def gradients() -> tuple[Tensor, ...]:
        out, _, _ = memory_chunked(
            MemoryCall(*problem.tokens, problem.rates, problem.start, None, TITANS, chunk_size=4)
        )
        return torch.autograd.grad(out.sum(), problem.leaves())

    def counting(*words: Any, **more: Any) -> Any:
        recomputed.append(1)
        return checkpoint(*words, **more)

    plain = gradients()
    monkeypatch.setattr("titans_seq.ops.general.chunked.CHECKPOINT_FROM", 2)
    monkeypatch.setattr("titans_seq.ops.general.chunked.checkpoint", counting)
    torch.testing.assert_close(gradients(), plain)
    assert len(recomputed) == 6


@pytest.mark.parametrize("case", ["titans, depth 2", "exact"])
def test_can_be_differentiated_twice(case: str) -> None:
    rule, depth = CASES[case]
    problem = _problem(rule, depth, 3, hard_gates=False)

    def read(value: Tensor) -> Tensor:
        q, k, _ = problem.tokens
        return learn_and_read(q, k, value, problem.rates, problem.start, None, rule, chunk_size=2)[
            0
        ]

    assert torch.autograd.gradgradcheck(read, problem.tokens[2], fast_mode=True)


@pytest.mark.parametrize("case", CASES)
def test_outputs_do_not_depend_on_whether_the_state_is_kept(case: str) -> None:
    rule, depth = CASES[case]
    problem = _problem(rule, depth, 11, hard_gates=False)
    kept, _, _ = _fast(problem, rule, 4)
    alone, _, _ = learn_and_read(
        *problem.tokens, problem.rates, problem.start, None, rule,
        chunk_size=4, norm=problem.norm, keep_state=False,
    )  # fmt: skip
    torch.testing.assert_close(alone, kept, rtol=1e-12, atol=1e-13)
