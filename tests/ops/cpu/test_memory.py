"""The compiled form of the memory against the general one, at sizes that no vector fits."""

from __future__ import annotations

import importlib.util
import itertools
import shutil

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from titans_seq.ops.call import MemoryCall
from titans_seq.ops.cpu import library as kernels
from titans_seq.ops.general.exact import memory_exact
from titans_seq.ops.memory import learn_and_read
from titans_seq.ops.rules.rule import Rates, UpdateRule
from titans_seq.ops.state import Carry, first_carry

RULES = {
    "titans": UpdateRule(),
    "gelu, plain steps": UpdateRule(step="mean", activation="gelu", gradient_bound=None),
    "forgets to zero": UpdateRule(forget_to="zero"),
    "exact": UpdateRule(gradient_point="token"),
    "gated delta": UpdateRule(gradient_point="token", forget_to="zero", decay_first=True),
}

needs_library = pytest.mark.skipif(
    kernels.library() is None, reason="the package was installed without a C compiler"
)


class Problem:
    """Inputs of one comparison, (batch, heads, time, dim), with or without a carried state."""

    def __init__(
        self, rule: UpdateRule, widths: tuple[int, ...], time: int, carried: bool,
        dtype: torch.dtype = torch.float64,
    ) -> None:  # fmt: skip
        generator = torch.Generator().manual_seed(sum(widths) + time)
        batch, heads = 3, 2

        def rand(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, dtype=torch.float64).to(dtype)

        q, k, v = (rand(batch, heads, time, widths[0]) * 2 - 1 for _ in range(3))
        self.tokens = [q / q.norm(dim=-1, keepdim=True), k / k.norm(dim=-1, keepdim=True), v]
        gates = [rand(batch, heads, time) for _ in range(3)]
        self.rates = Rates(gates[0].log(), gates[1].log(), gates[2], torch.ones_like(gates[0]))
        self.start = tuple(
            rand(heads, inner, outer) - 0.5 for inner, outer in itertools.pairwise(widths)
        )
        self.rule, self.carry = rule, None
        if carried:
            first = first_carry(self.start, rule, batch, 16)
            weights = tuple(one + 0.1 * rand(*one.shape) for one in first.weights)
            momentum = tuple(0.1 * rand(*one.shape) for one in first.momentum)
            self.carry = first._replace(weights=weights, momentum=momentum)
        for leaf in self.leaves():
            leaf.requires_grad_()

    def leaves(self) -> list[Tensor]:
        carried = () if self.carry is None else (*self.carry.weights, *self.carry.momentum)
        return [*self.tokens, *self.rates[:3], *self.start, *carried]

    def read(self, chunk: int, keep_state: bool = True) -> list[Tensor]:
        out, loss, carry = learn_and_read(
            *self.tokens, self.rates, self.start, self.carry, self.rule,
            chunk_size=chunk, keep_state=keep_state,
        )  # fmt: skip
        return [out, loss, *_states(carry)]

    def gradients(self, results: list[Tensor], again: bool = False) -> tuple[Tensor, ...]:
        total = sum((one * torch.linspace(-1, 1, one.numel()).to(one).reshape(one.shape)).sum()
                    for one in results)  # fmt: skip
        assert isinstance(total, Tensor)
        return torch.autograd.grad(
            total, self.leaves(), allow_unused=True, materialize_grads=True, retain_graph=again
        )


def _states(carry: Carry | None) -> tuple[Tensor, ...]:
    return () if carry is None else (*carry.weights, *carry.momentum)


def _without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("titans_seq.ops.cpu.library.library", lambda: None)


def test_a_compiler_at_hand_built_the_library() -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    assert kernels.library() is not None


def test_a_library_of_other_sources_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kernels.library.cache_clear()
    monkeypatch.setattr(kernels, "INTERFACE", kernels.INTERFACE + 1)
    try:
        if importlib.util.find_spec("titans_seq.ops.cpu._kernels") is None:
            pytest.skip("the package was installed without a C compiler")
        assert kernels.library() is None
        assert "install titans-seq again" in caplog.text
    finally:
        kernels.library.cache_clear()


@needs_library
@pytest.mark.parametrize("carried", [False, True], ids=["fresh", "carried"])
@pytest.mark.parametrize(
    ("hidden", "time", "chunk"),
    [
        ((), 7, 7),
        ((9,), 33, 11),
        ((16,), 32, 16),
        ((21,), 3, 1),
        ((5, 18), 26, 13),
        ((8, 8, 8), 20, 5),
    ],
    ids=str,
)
@pytest.mark.parametrize("case", RULES)
def test_gives_what_the_general_form_gives(
    case: str, hidden: tuple[int, ...], time: int, chunk: int, carried: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    rule = RULES[case]
    hidden = () if rule.gradient_point == "token" else hidden
    problem = Problem(rule, (9, *hidden, 9), time, carried)
    fast = problem.read(chunk)
    fast_gradients = problem.gradients(fast)
    _without_library(monkeypatch)
    slow = problem.read(chunk)
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(fast_gradients, problem.gradients(slow), rtol=1e-10, atol=1e-10)


@needs_library
@pytest.mark.parametrize("case", RULES)
def test_a_last_chunk_that_is_not_whole_gives_what_the_general_form_gives(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = Problem(RULES[case], (8, 8), 13, True)
    fast = problem.read(5, keep_state=False)
    fast_gradients = problem.gradients(fast)
    _without_library(monkeypatch)
    slow = problem.read(5, keep_state=False)
    torch.testing.assert_close(fast[:2], slow[:2], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        fast_gradients, problem.gradients(slow[:2]), rtol=1e-10, atol=1e-10
    )  # fmt: skip


@needs_library
@pytest.mark.parametrize("carried", [False, True], ids=["fresh", "carried"])
@pytest.mark.parametrize("hidden", [(), (9,), (21,), (5, 18)], ids=str)
@pytest.mark.parametrize("case", RULES)
def test_without_the_state_at_the_end_gradients_are_the_same(
    case: str, hidden: tuple[int, ...], carried: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = RULES[case]
    hidden = () if rule.gradient_point == "token" else hidden
    for time in (7, 28):
        problem = Problem(rule, (9, *hidden, 9), time, carried)
        fast = problem.gradients(problem.read(7, keep_state=False)[:2])
        with monkeypatch.context() as patch:
            _without_library(patch)
            slow = problem.gradients(problem.read(7, keep_state=False)[:2])
        torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-10)


@needs_library
@pytest.mark.parametrize("used", range(6), ids=["out", "loss", "w1", "w2", "s1", "s2"])
def test_each_result_alone_has_the_general_forms_gradients(
    used: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = Problem(RULES["titans"], (8, 12, 8), 24, False)
    fast = problem.gradients([problem.read(8)[used]])
    _without_library(monkeypatch)
    slow = problem.gradients([problem.read(8)[used]])
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-10)


@needs_library
def test_several_memories_alive_at_once_do_not_touch_each_other() -> None:
    problems = [Problem(RULES["titans"], (8, width, 8), 24, False) for width in (12, 16, 12)]
    alone = [problem.gradients(problem.read(8)) for problem in problems]
    together = [problem.read(8) for problem in problems]
    order = (1, 0, 2)
    found = {i: problems[i].gradients(together[i]) for i in order}
    torch.testing.assert_close([found[i] for i in range(3)], alone, rtol=0, atol=0)


@needs_library
def test_computing_again_under_a_checkpoint_gives_the_same() -> None:
    problem = Problem(RULES["titans"], (8, 12, 8), 24, False)
    kept = problem.gradients(problem.read(8))
    again = problem.gradients(list(checkpoint(problem.read, 8, use_reentrant=False)))
    torch.testing.assert_close(again, kept, rtol=0, atol=0)


@needs_library
def test_inference_gives_what_training_gives() -> None:
    problem = Problem(RULES["titans"], (8, 12, 8), 24, False)
    with torch.inference_mode():
        results = problem.read(8)
    torch.testing.assert_close(results, problem.read(8), rtol=0, atol=0)


@needs_library
def test_a_second_backward_pass_gives_the_same() -> None:
    problem = Problem(RULES["titans"], (8, 12, 8), 24, False)
    results = problem.read(8)
    first = problem.gradients(results, again=True)
    torch.testing.assert_close(problem.gradients(results), first, rtol=0, atol=0)


@needs_library
@pytest.mark.parametrize("case", ["titans", "exact"])
def test_the_number_of_threads_changes_nothing(case: str) -> None:
    threads = torch.get_num_threads()
    found = []
    try:
        for number in (1, 4):
            torch.set_num_threads(number)
            problem = Problem(RULES[case], (8, 8), 16, False)
            results = problem.read(8)
            found.append((results, problem.gradients(results)))
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


@needs_library
@pytest.mark.parametrize("hidden", [(), (64,)], ids=str)
def test_float32_loses_little(hidden: tuple[int, ...]) -> None:
    rule = RULES["titans"]
    exact = Problem(rule, (32, *hidden, 32), 128, False)
    single = Problem(rule, (32, *hidden, 32), 128, False, torch.float32)
    torch.testing.assert_close(
        [one.double() for one in single.read(64)], exact.read(64), rtol=1e-4, atol=1e-5
    )


@needs_library
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_visible(bad: float) -> None:
    problem = Problem(RULES["titans"], (8, 8), 16, False)
    with torch.no_grad():
        problem.tokens[2][0, 0, 3, 2] = bad
        out, loss, *_ = problem.read(8)
    assert not loss[0, 0, 3].isfinite()
    assert not out[0, 0, 9:].isfinite().all()
    assert out[1:].isfinite().all()


@needs_library
@pytest.mark.parametrize("case", RULES)
def test_empty_slots_leave_no_trace_and_gradients_are_the_general_forms(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = Problem(RULES[case], (8, 8), 15, True)
    empty = torch.zeros(3, 2, 15, dtype=torch.bool)
    empty[0, :, 12:] = empty[1, :, 3] = empty[2] = True
    with torch.no_grad():
        for one in (*problem.tokens, *problem.rates):
            one[empty] = 0.0
    fast = problem.read(5)
    for now, before in zip(fast[2:], _states(problem.carry), strict=True):
        torch.testing.assert_close(now[:, 2], before[:, 2], rtol=0, atol=1e-15)
    fast_gradients = problem.gradients(fast)
    _without_library(monkeypatch)
    slow = problem.read(5)
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(fast_gradients, problem.gradients(slow), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("outer", [3, 40])
def test_values_of_another_width_than_keys_are_read(outer: int) -> None:
    problem = Problem(RULES["exact"], (8, outer), 7, carried=False)
    q, k, v = problem.tokens
    v = torch.linspace(-1, 1, v[..., 0].numel() * outer, dtype=v.dtype).reshape(*v.shape[:3], outer)
    given = (q, k, v, problem.rates, problem.start)
    out, _, _ = learn_and_read(*given, None, problem.rule, chunk_size=4)
    truth, _, _ = memory_exact(MemoryCall(*given, None, problem.rule, chunk_size=4))
    torch.testing.assert_close(out, truth)
