"""What stands around the memory: the compiled forms against torch's, gradients and threads."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from titans_seq.ops.cpu import library as kernels
from titans_seq.ops.features import (
    leave,
    leave_reference,
    mix_features,
    mix_features_reference,
)

SIZES = [(1, 1, 1, 1), (2, 1, 2, 5), (2, 2, 2, 5), (3, 7, 2, 3), (2, 70, 3, 32), (1, 21, 4, 13)]
"""batch, time, heads, width of a head"""

needs_compiler = pytest.mark.skipif(kernels.library() is None, reason="built without a compiler")


def _random(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    source = torch.Generator().manual_seed(0)
    return [
        torch.randn(shape, generator=source, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in shapes
    ]


def _to_mix(
    batch: int, time: int, heads: int, width: int, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    """Return inputs, tail and taps."""
    channels = 3 * heads * width
    return _random((batch, time, channels), (batch, 3, channels), (4, channels), dtype=dtype)


def _to_leave(
    batch: int, time: int, heads: int, width: int, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    """Return what was read, gate and gain."""
    dim = heads * width
    return _random((batch, heads, time, width), (batch, time, dim), (dim,), dtype=dtype)


def _same(ours: object, theirs: object, inputs: list[Tensor]) -> None:
    """Compare values, and gradients by every input."""
    torch.testing.assert_close(ours, theirs)
    mine, yours = (one if isinstance(one, tuple) else (one,) for one in (ours, theirs))
    source = torch.Generator().manual_seed(1)
    by = [torch.randn(one.shape, generator=source, dtype=one.dtype) for one in yours]
    torch.testing.assert_close(
        torch.autograd.grad(mine, inputs, by), torch.autograd.grad(yours, inputs, by)
    )


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", SIZES)
def test_compiled_features_are_torchs_with_a_tail_and_without(
    sizes: tuple[int, int, int, int], dtype: torch.dtype
) -> None:
    x, tail, taps = _to_mix(*sizes, dtype)
    heads = sizes[2]
    ours, theirs = (
        tuple(form(x, tail, taps, heads)) for form in (mix_features, mix_features_reference)
    )
    _same(ours, theirs, [x, tail, taps])
    ours, theirs = (
        tuple(form(x, None, taps, heads)) for form in (mix_features, mix_features_reference)
    )
    _same(ours, theirs, [x, taps])


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", SIZES)
def test_compiled_leaving_is_torchs(sizes: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    inputs = _to_leave(*sizes, dtype)
    _same(leave(*inputs), leave_reference(*inputs), inputs)


def test_the_features_are_what_the_formulas_say() -> None:
    x, tail, taps = _to_mix(2, 5, 2, 3)
    padded = torch.cat([tail, x], dim=1)
    mixed = sum(taps[tap] * padded[:, tap : tap + 5] for tap in range(4))
    active = (mixed * mixed.sigmoid()).reshape(2, 5, 3, 2, 3).permute(2, 0, 3, 1, 4)
    q, k, v = mix_features(x, tail, taps, 2)
    torch.testing.assert_close(v, active[2])
    for ours, theirs in ((q, active[0]), (k, active[1])):
        torch.testing.assert_close(ours, theirs / theirs.norm(dim=-1, keepdim=True))


def test_what_leaves_is_what_the_formula_says() -> None:
    reads, gate, gain = _to_leave(2, 5, 2, 3)
    normed = reads / reads.square().mean(-1, keepdim=True).add(1e-6).sqrt()
    joined = normed.permute(0, 2, 1, 3).reshape(2, 5, 6)
    torch.testing.assert_close(leave(reads, gate, gain), joined * gain * gate * gate.sigmoid())


@pytest.mark.slow
def test_gradients_are_right_twice() -> None:
    def mix(x: Tensor, tail: Tensor, taps: Tensor) -> tuple[Tensor, ...]:
        return tuple(mix_features(x, tail, taps, 2))

    inputs = _to_mix(2, 5, 2, 3)
    assert torch.autograd.gradcheck(mix, inputs)
    assert torch.autograd.gradgradcheck(mix, inputs)
    inputs = _to_leave(2, 3, 2, 3)
    assert torch.autograd.gradcheck(leave, inputs)
    assert torch.autograd.gradgradcheck(leave, inputs)


def test_another_number_of_taps_has_the_general_form() -> None:
    x, tail, taps = _random((2, 5, 12), (2, 1, 12), (2, 12))
    ours, theirs = (
        tuple(form(x, tail, taps, 2)) for form in (mix_features, mix_features_reference)
    )
    torch.testing.assert_close(ours, theirs)


def test_zeros_stay_zero_with_finite_gradients() -> None:
    x = torch.zeros(1, 6, 12, requires_grad=True)
    (taps,) = _random((4, 12), dtype=torch.float32)
    features_of = mix_features(x, None, taps, 2)
    assert all(not one.any() for one in features_of)
    sum(one.sum() for one in features_of).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    reads = torch.zeros(1, 2, 6, 4, requires_grad=True)
    out = leave(reads, torch.ones(1, 6, 8), torch.ones(8))
    out.sum().backward()
    assert not out.any()
    assert reads.grad is not None
    assert reads.grad.isfinite().all()


@needs_compiler
def test_extreme_inputs_stay_finite() -> None:
    x = torch.tensor([1e9, -1e9, 300.0, -300.0]).repeat(1, 5, 6).requires_grad_()
    taps = torch.ones(4, 24, requires_grad=True)
    features_of = mix_features(x, None, taps, 2)
    assert all(one.isfinite().all() for one in features_of)
    sum(one.sum() for one in features_of).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@needs_compiler
def test_threads_share_the_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    from titans_seq.ops.cpu import features as compiled

    monkeypatch.setattr(compiled, "WORTH_A_THREAD", 1)
    monkeypatch.setattr(kernels, "number_of_threads", lambda rows: min(rows, 4))
    inputs = _to_mix(2, 9, 3, 5)
    ours, theirs = (tuple(form(*inputs, 3)) for form in (mix_features, mix_features_reference))
    _same(ours, theirs, inputs)
    inputs = _to_leave(2, 9, 3, 5)
    _same(leave(*inputs), leave_reference(*inputs), inputs)


def test_half_precision_is_computed_in_float32() -> None:
    x, tail, taps = (one.detach() for one in _to_mix(2, 40, 2, 8, torch.bfloat16))
    ours = mix_features(x, tail, taps, 2)
    theirs = mix_features(x.double(), tail.double(), taps.double(), 2)
    for mine, yours in zip(ours, theirs, strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine.double(), yours, rtol=1e-4, atol=1e-6)


def test_without_a_compiler_torch_computes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = _to_mix(1, 5, 2, 3)
    right = mix_features(*inputs, 2)
    monkeypatch.setattr(kernels, "library", lambda: None)
    torch.testing.assert_close(tuple(mix_features(*inputs, 2)), tuple(right))


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("with_tail", [True, False])
def test_operators_of_features_keep_their_contract(with_tail: bool) -> None:
    x, tail, taps = _to_mix(2, 5, 2, 3)
    past = tail if with_tail else None
    torch.library.opcheck(torch.ops.titans_seq.mix_features.default, (x, past, taps, 2))
    x, taps, plain = x.detach(), taps.detach(), tail.detach() if with_tail else None
    grads = [torch.ones(2, 2, 5, 3, dtype=x.dtype) for _ in range(3)]
    backward = torch.ops.titans_seq.mix_features_backward.default
    torch.library.opcheck(backward, (x, plain, taps, grads, 2))


@needs_compiler
def test_operators_of_leaving_keep_their_contract() -> None:
    inputs = _to_leave(2, 5, 2, 3)
    torch.library.opcheck(torch.ops.titans_seq.leave.default, (*inputs, 1e-6))
    reads, gate, gain = (one.detach() for one in inputs)
    backward = torch.ops.titans_seq.leave_backward.default
    torch.library.opcheck(backward, (reads, gate, gain, torch.ones_like(gate), 1e-6))
